"""A fitted model of a scan."""
