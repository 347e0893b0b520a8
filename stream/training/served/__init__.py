"""What becomes of what was served: its labels, and whether it did harm."""
