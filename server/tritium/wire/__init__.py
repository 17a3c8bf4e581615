"""HTTP/1.1 and HTTP/2 with gRPC framing as asyncio protocols: bytes in, calls out. Knows nothing of inference."""
