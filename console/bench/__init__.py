"""Measurements: `cardswitch bench`."""
