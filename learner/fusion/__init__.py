"""Fusion: the scores of several tasks become one ranking score, whose weights are searched on logged outcomes."""
