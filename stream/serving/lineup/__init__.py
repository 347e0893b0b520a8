"""Who is served which weights, and what they say."""
