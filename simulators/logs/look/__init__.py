"""Looking at data: what a log holds, and a first mapping for a file."""
