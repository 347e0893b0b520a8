"""What takes the memory of Redis, by kind."""
