"""TensorRT-LLM behind the LanguageEngine protocol: its LLM API in a worker process, tokens in and tokens out."""
