"""The fluent surface: what users declare a program with, and the checks of it."""
