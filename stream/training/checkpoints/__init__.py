"""How what was learned becomes durable, and where training goes on from it."""
