"""The page of one run, and its parts: each a file of the same name."""
