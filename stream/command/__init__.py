"""Whatever a person types; the only part that may import every other."""
