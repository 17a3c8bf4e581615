"""Real vLLM behind the LanguageEngine protocol: AsyncLLM in a worker process, tokens in and tokens out."""
