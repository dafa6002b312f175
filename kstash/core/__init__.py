"""The lineage protocol: pure state machines and codecs; no I/O, clock, randomness or threads."""
