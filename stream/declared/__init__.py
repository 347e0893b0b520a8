"""What settings declare of samples: the fields where no others are given."""
