"""What settings declare of samples: the fields where no others are given, and whether histories fit."""
