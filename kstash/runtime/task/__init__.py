"""One task: its inputs, its program, its state and its outputs."""
