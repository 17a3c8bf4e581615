"""HTTP/1.1 on httptools: one asyncio protocol a connection, one request at a time, answers in order."""
