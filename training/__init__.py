"""Entry points that read from top to bottom. Imports mousev1, never the reverse."""
