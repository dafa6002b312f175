"""The lineage protocol: pure state machines and codecs; no I/O, clock, randomness or threads.

| module | holds |
|---|---|
| `ids` | task, incarnation |
| `determinants` | what an event was; cutting and joining lineage |
| `wire` | lineage-topic records, identity and lineage headers, markers |
| `frames` | many logical records in one Kafka record |
| `partitioner` | murmur2 of the key, as the Java clients |
| `stash` | determinants appended, in flight, stable |
| `task` | the live path of one task: chunk rule, cap, segments, hints, checkpoint conditions |
| `reader` | the reader rule |
| `lineage` | what the lineage topic says about one task group |
| `recovery` | from lineage and scanned tails to a replay plan |
| `group` | claim, fence, seal, read, scan, start, replay, live: a transition table |
| `sink` | when a transaction may be committed, and the committed position |
| `trim` | what may be tombstoned and purged |
"""
