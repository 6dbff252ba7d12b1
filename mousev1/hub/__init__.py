"""Cores and models by name: registry, download, import of published checkpoints, upload."""
