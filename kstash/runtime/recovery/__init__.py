"""How a task group becomes live: one attempt, and what it reads and restores."""
