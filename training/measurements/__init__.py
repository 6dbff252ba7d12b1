"""Measured comparisons with the field's own library, and of mousev1 with itself."""
