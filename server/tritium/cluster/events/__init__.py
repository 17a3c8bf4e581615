"""How changes of workers' caches reach fronts where not by the workers' own connections."""
