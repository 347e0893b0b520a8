"""Predictions and labels -> sums by cohort, and what can be read from them."""
