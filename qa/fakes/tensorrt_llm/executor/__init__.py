"""As far as the engine needs it."""
