"""What a person looks at: the page, its server, the report."""
