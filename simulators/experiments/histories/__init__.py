"""Readers of histories and tokens of past samples beside each other, by length of the history."""
