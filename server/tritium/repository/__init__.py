"""Model repositories on disk: finding, checking, loading, unloading, and looking models up."""
