"""The pages of the roles, who works in a run, and the graph as a picture."""
