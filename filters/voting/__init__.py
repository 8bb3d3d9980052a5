"""Which of several answers to take: what an answer says in the end, whom that makes agree, and what judges make of the others."""
