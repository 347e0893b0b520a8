"""Where the sums are kept, checkpoint by checkpoint."""
