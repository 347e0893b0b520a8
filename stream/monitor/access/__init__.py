"""Who may ask the monitor, under which names, at which port."""
