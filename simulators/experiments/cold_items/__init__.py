"""Cold items: how well a model ranks items that it has seen 0, 20, 40 and 60 ratings of."""
