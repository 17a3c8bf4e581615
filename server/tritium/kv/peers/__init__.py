"""The host tiers of other workers as one more tier: who holds what, leases, and reading blocks out of their memory."""
