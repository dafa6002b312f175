"""One task group while it is live: lineage, commits, checkpoints, tombstones."""
