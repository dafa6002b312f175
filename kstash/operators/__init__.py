"""What a node does to a batch: one file for each kind of operator."""
