"""Sentence encoders, and files of what they say of words."""
