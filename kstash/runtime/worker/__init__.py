"""The loop of a worker, its task groups, and what it reports."""
