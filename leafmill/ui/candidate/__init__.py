"""The page of one candidate: its trace as a timeline, how its row came to be, and what was thought of it."""
