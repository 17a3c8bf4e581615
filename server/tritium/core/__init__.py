"""Tensors, requests, models, schedulers, statistics: pure, without sockets, files or clocks of its own."""
