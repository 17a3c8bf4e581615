"""dynamo-migrate: from Triton deployments to Tritium."""
