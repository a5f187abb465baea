"""Which issuer a request goes to, whether its link is fit for it, and who answers where none is."""
