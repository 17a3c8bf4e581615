"""KV blocks between workers and tiers; usable without the server."""
