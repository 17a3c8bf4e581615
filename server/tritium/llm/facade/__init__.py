"""A language model behind KServe's tensors: those of vllm_backend, and of TensorRT-LLM's models, under any names."""
