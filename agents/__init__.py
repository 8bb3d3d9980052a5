"""Who does the work: one module per family of agents (planner, writer, evolver, answerer, annotator, critic), the prompt file
made into a role (`role`), one model call with everything that must hold around it (`chat`), and the embedded models for those who
have no endpoint (`weights` fetches them, `local` serves them)."""
