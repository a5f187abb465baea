"""The command line: the one place where every part is put together."""
