"""From features to inputs: descent, and exact finishes."""
