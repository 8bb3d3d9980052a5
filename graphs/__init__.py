"""In what order: the state machine of one candidate, the loop of one leaf around it, and the run over all leaves."""
