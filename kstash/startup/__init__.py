"""Whether a program may start here: its topics, its rights, the last program, other members."""
