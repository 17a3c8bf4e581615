"""`dynamo-migrate record`: a proxy that writes down inference requests, for `verify` to send them again."""
