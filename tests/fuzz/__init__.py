"""Fuzz targets: for any bytes, only documented errors; `python -m tests.fuzz NAME --seconds N`."""
