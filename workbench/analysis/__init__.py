"""Measures of runs, made from their records alone: comparisons, distributions, and tool calls token by token."""
