"""`dynamo-migrate verify`: the same requests to the old and the new server, and what differs."""
