"""From features to the rates of neurons."""
