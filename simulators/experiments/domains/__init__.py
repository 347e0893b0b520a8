"""IDP's protocol: ids learned on source domains, given to the items of another one."""
