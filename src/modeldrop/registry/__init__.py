"""Write to a registry (publish, move channels, prune) and read what it holds."""
