"""The worker loop over ports: tasks, recovery, checkpoints, commits, shutdown.

| module | holds |
|---|---|
| `worker` | the loop: consumer, routing, shutdown |
| `groups` | the groups of this process: membership, moves, restarts |
| `group` | one task group: its life, from recovery to release |
| `opening` | makes a group's tasks |
| `lineage`, `sinks`, `checkpoints`, `hints` | what a live group does behind its tasks |
| `recovery` | carries out the effects of `core.group` |
| `task` | one task: replay and live processing |
| `decode`, `emit` | Kafka records to batches, batches to Kafka records |
| `scan`, `tails` | reads of lineage and of the outputs' tails |
| `bounded` | runs to the end of the input |
| `layout`, `context`, `report` | where tasks are; what the parts share; metrics |
"""
