"""`dynamo-migrate forecast`: the GPUs and the memory that a language model needs, from its size and its load."""
