"""What a search for the inputs of a set of outputs finds, and how it is gathered and sampled."""
