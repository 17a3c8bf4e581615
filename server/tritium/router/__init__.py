"""Which worker takes a prompt, and why. Pure: no sockets, clocks or processes; driven by text scripts in tests."""
