"""Writing to a registry: publish, promote, roll back, and looking at what is there."""
