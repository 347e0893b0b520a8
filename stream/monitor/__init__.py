"""The cold-start monitor: how users fare in their first impressions, now and over time."""
