"""Who is served by what, and whether it does harm."""
