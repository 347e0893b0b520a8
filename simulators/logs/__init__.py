"""Logged event streams: where they come from, and what they say."""
