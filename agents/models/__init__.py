"""How a model is spoken to: aliases, their endpoints, their pace and their price; and the embedded models."""
