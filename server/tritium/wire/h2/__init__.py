"""gRPC over HTTP/2, one asyncio protocol a connection. Sources: RFC 9113, RFC 7541, grpc/doc/PROTOCOL-HTTP2.md."""
