"""Images, sounds and films of a conversation: found, fetched where that is allowed, handed to the engine."""
