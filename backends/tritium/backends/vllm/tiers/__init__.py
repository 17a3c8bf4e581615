"""KV blocks of vLLM in tiers below its device: a KV connector over `tritium.kv`."""
