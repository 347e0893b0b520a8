"""Experiments about what new items start with, in a stream and in a new domain."""
