"""Arithmetic and memory below everything else."""
