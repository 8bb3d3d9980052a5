"""The nodes of the candidate's graph, by what they do. `candidate` wires them."""
