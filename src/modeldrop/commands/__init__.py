"""The commands: each module defines the arguments of one, calls the layers below, and prints."""
