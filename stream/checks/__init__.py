"""What is there, missing or wrong: looked at by `coldstream doctor` and by the monitor, in the same words."""
