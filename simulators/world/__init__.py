"""A world with known truth: who has which taste, who comes back, what comes of an impression."""
