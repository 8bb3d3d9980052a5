"""How fast the web pages are, and what looking costs a run."""
