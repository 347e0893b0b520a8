"""The fast part: first-order weights, factors and crosses learned sample by sample, weighed by a state-aware gate."""
