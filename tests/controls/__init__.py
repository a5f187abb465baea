"""The controls of SECURITY.md: what each is in the code, and the test that fails once it is taken out."""
