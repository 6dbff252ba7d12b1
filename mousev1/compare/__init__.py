"""Cores and baselines compared on one scan."""
