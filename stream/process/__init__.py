"""What every role has: failpoints, its garbage collector, the progress that it reports."""
