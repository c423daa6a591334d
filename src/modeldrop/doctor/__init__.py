"""Whether a registry can be published to and read from here: one line for each thing looked at, and its remedy."""
