"""Building a version: resolve the source, export, quantize, prove, measure, report."""
