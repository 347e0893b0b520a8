"""Sample tokens (SIF): a whole sample as a few codes, short enough to be kept of every sample of a user."""
