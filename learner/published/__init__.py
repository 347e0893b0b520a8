"""What a learner publishes: messages of arrays by name, small enough to be chunks."""
