"""Response caches that need a socket, and the settings of all of them.

settings    --cache-config, read
resp        the bytes that Redis speaks
connection  one pipelined connection to Redis
redis       a store of responses in Redis, that finds nothing while Redis is away
"""
