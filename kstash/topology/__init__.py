"""The declared graph and what it compiles to: stages, topics and stores, as frozen data."""
