"""What the core and its readout are compared with."""
