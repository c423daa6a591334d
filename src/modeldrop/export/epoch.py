"""The exporter epoch."""

EXPORTER_EPOCH = 2
"""Raised when the files we make from the same source and recipe change on purpose: then all is built anew."""
