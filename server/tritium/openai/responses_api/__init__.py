"""OpenAI's Responses API over the same models: typed items in and out, kept for the next turn."""
