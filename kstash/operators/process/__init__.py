"""Processors: the classes of users, and the state and timers that they are given."""
