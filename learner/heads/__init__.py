"""Heads for several tasks: a representation becomes one logit per task; and how their losses are balanced."""
