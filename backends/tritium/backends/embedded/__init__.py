"""A language engine in NumPy: Llama-type models of a few megabytes, for trying, for samples and for tests."""
