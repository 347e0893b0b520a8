"""What an experiment found, as tables for people."""
