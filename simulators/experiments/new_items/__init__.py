"""New items in a stream: how their first impressions fare by what the items start with."""
