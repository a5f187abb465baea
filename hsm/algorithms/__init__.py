"""Payment cryptography without I/O: blocks, codes and cryptograms over keys that may be in a token."""
