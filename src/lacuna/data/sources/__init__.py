"""Image sources, one module each."""
