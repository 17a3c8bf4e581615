"""config.pbtxt: reading, checking, completing, and answering it as JSON."""
