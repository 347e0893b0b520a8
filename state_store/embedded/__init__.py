"""Servers as child processes of whoever needs them."""
