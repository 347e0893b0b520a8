"""Next items from sequences of ids, and ids of a new domain's items made from another's (IDP)."""
