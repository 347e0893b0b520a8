"""Every prediction, as it was made before learning, and what became of it."""
