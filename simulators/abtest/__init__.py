"""Two pipelines behind one world, users split between them, and what that says of them."""
