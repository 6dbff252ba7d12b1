"""Entry points that read from top to bottom; they import mousev1, never the reverse."""
