"""Build a version: resolve the source, export, quantize, verify, measure, report."""
