"""SGLang behind the LanguageEngine protocol: its Engine in a thread of a worker process, tokens in and tokens out."""
