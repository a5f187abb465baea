"""The keys: what each may do, how they are kept, how they come and go."""
