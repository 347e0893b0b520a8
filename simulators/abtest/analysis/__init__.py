"""What two groups of users say of their arms; no world, no pipeline."""
