"""HTTP servers that hostile clients cannot stop: limits, deadlines and strict framing before an ASGI application."""
