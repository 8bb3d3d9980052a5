"""The table of candidates, what is asked of it, and its download."""
