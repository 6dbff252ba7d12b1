"""Bayesian search of hyperparameters."""
