"""Analyses of runs from their records: comparisons, distributions, and tool calls token by token."""
