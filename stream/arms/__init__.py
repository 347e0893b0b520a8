"""Arms of experiments."""
