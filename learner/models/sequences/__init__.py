"""What is made of a history for one candidate: vectors that an interaction model takes as further fields."""
