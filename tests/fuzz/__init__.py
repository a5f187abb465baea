"""Fuzz targets: whatever bytes come, only documented errors; `python -m tests.fuzz NAME --seconds N`."""
