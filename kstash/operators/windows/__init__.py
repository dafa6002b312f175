"""Windows: folds of each key and window. One file a kind of windows, and what all share."""
