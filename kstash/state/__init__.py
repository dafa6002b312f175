"""State of tasks: dicts of live values before what is on the disk, and checkpoints of both.

`cache` has the store of keyed values, `ordered` and `timers` those that are read in an order;
`rocks` keeps them in RocksDB, which only this package imports; `files` and `folder` know the file
system. The fake for tests, `kstash.testing.state`, has the same stores over dicts.
"""

from kstash.state.rocks import RocksBackend

__all__ = ["RocksBackend"]
