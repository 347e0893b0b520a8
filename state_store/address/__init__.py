"""Where Redis is, and what of that must not be shown."""
