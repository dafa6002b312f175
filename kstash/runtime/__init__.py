"""The worker over ports: the loop, task groups, recoveries and tasks, in storeys."""
