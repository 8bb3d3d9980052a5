"""What was accepted before must not come again: the same words, almost the same words, the same in other words."""
