"""Where checkpoints are kept besides a worker's disk."""
