"""Pretraining: one core on many scans."""
