"""Reading what a model wrote: reasoning and tool calls told from content, by the conventions of each model family."""
