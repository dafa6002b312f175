"""State of tasks: a dict of live values in front of a table, and checkpoints of it.

`cache` holds the store that operators see, `rocks` keeps it in RocksDB (the only importer of
rocksdict), `memory` in dicts for tests; `files` and `folder` know the file system.
"""

from kstash.state.rocks import RocksBackend

__all__ = ["RocksBackend"]
