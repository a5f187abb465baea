"""The keys: their permissions, their storage, their import and export."""
