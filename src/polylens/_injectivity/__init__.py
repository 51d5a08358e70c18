"""Whether the active rows of a layer span everywhere."""
