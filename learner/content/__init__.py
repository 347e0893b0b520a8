"""Content-made starts: a new item's first weight and vector, from those of the items most like it."""
