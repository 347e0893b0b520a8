"""What is said of a test: while it runs, as JSON and a table, as a page."""
