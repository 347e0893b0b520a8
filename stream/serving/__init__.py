"""Weights and state -> scores."""
