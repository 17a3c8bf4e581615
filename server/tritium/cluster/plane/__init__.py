"""The request plane: how a front reaches workers it did not start, over a Unix socket or TCP."""
