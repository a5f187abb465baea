"""A simulated network: a sign-on of its own, issuers behind it, and totals at cut-over."""
