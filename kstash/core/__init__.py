"""The lineage protocol: pure state machines and codecs; no I/O, clock, randomness or threads.

| module | holds |
|---|---|
| `ids` | task, incarnation |
| `determinants` | what an event was; cutting and joining lineage |
| `wire` | lineage-topic records, identity and lineage headers, markers |
| `frames` | many logical records in one Kafka record |
| `partitioner` | murmur2 of the key, as the Java clients |
| `stash` | determinants appended, in flight, stable |
| `outputs` | what a task knows of one of its output partitions |
| `task` | the live path of one task: chunk rule, cap, segments, hints, checkpoint conditions |
| `reader` | the reader rule |
| `lineage` | what the lineage topic says about one task group |
| `manifest` | what the list of files of a checkpoint may say |
| `recovery` | from lineage and scanned tails to a replay plan |
| `hashes` | rolling hashes of what a task makes |
| `replay` | what a replay takes next, what it suppresses and compares |
| `skips` | records that are passed over, and when that is too late |
| `starting` | what a START says, and whether this program may go on from the one before |
| `group` | claim, fence, seal, read, scan, start, replay, live: a transition table |
| `sink` | when a transaction may be committed, and the committed position |
| `trim` | what may be tombstoned and purged |
| `files` | which files of remote checkpoints are referred to, kept and deleted |
"""
