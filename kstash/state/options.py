"""Settings of the RocksDB databases, one of which each task with stores has."""

from __future__ import annotations

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options

WRITE_BUFFER_BYTES = 4 << 20
"""Per column family. Checkpoints flush it anyhow; a worker may have hundreds of them."""

OPEN_FILES_MAX = 256
MANIFEST_BYTES_MAX = 64 * 1024
INFO_LOG_BYTES_MAX = 1 << 20


def rocks_options(block_cache: Cache) -> Options:
    """Small settings: many databases share a process, and a dict in front does the caching."""
    table = BlockBasedOptions()
    table.set_block_cache(block_cache)
    table.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(create_if_missing=True)
    options.create_missing_column_families(create_missing_cfs=True)
    # Without a write-ahead log only this keeps a position and its state together.
    options.set_atomic_flush(atomic_flush=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX)
    options.set_manifest_preallocation_size(4096)
    # It is part of every checkpoint, and grows with each: made anew when it is larger than this.
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX)
    # No background statistics: they cost writes for every database.
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options
