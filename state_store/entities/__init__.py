"""What concerns the hashes of users and items alone."""
