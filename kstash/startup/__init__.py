"""May this program start here: its topics, its rights, its predecessor, other members."""
