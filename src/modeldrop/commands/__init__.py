"""The commands: each module reads its arguments, calls the layers, and prints."""
