"""Which worker runs a request, and why. Pure."""
