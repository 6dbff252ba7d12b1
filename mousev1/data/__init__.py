"""Recordings and pictures: files to a validated scan and back."""
