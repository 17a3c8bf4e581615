"""The mocker engine: a scheduler and a KV cache like a real engine's, computing nothing, as fast as told."""
