"""Shields: providers of the API ``safety``."""
