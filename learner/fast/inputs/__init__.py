"""What the fast part is told of samples: occurrences of values, state signals, levels."""
