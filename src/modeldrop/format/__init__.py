"""The registry's documents: parse, validate, serialize. Nothing here reads a disk, a clock or a network."""
