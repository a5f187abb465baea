"""The HTTP endpoint where card data is accepted."""
