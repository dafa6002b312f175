"""The process that a worker runs in: start, signals, several of them, limits of the system."""
