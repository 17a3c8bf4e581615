"""Moving blocks of memory from one worker's cache to another's: NIXL where it is installed, shared memory otherwise.

It stands here and not in `tritium.kv`, because engines use it inside workers, and backends import nothing of the
server but its core.
"""
