"""What elements and codes mean, by version of the standard; data, read by whatever shows or translates messages."""
