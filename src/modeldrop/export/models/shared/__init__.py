"""What the families' workers share: loading, exporting and running the original model. Only a worker imports it."""
