"""The pages of a run in one file that holds still."""
