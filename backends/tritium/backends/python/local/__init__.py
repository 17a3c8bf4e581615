"""Models that run in the server's own process: the same conversation, without a socket."""
