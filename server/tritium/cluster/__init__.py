"""Worker processes: starting, finding, feeding and losing them."""
