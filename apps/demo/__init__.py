"""The demo: words counted exactly once while the worker is killed and comes back."""
