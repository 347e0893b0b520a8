"""A world like a log."""
