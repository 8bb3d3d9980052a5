"""Two runs or prompt variants side by side."""
