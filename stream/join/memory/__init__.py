"""What a partition holds: numbers of ids and room for what is known of each; event time; what is due when."""
