"""Dialects that others have written: jPOS packagers, moov-io JSON, pyiso8583 specs in, a `Dialect` out, and back."""
