"""Two-tower retrieval on a log: its split (AdaF2M2, table 4), and its stream hour by hour."""
