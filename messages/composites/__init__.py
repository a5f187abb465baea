"""Elements with parts inside: values of a message in, trees out, and back byte for byte; parsed when asked for."""
