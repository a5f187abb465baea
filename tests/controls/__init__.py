"""The controls of SECURITY.md: their code, and the test that fails once it is taken out."""
