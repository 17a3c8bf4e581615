"""What the server offers under the names of models that became one: the tensors of TensorRT-LLM's `ensemble`.

docs/triton-text.md says what each does; a test holds them against the server's own.
"""

from typing import Final

SURFACE: Final = "trtllm"
"""What the server calls these tensors."""
UNASKED: Final = frozenset({"ensemble", "tensorrt_llm_bls"})
"""Names that have them without saying so."""
INPUTS: Final = frozenset(
    (
        *("text_input", "max_tokens", "bad_words", "stop_words", "end_id", "pad_id", "top_k", "top_p"),
        *("temperature", "length_penalty", "beam_width", "stream", "repetition_penalty", "presence_penalty"),
        *("frequency_penalty", "min_tokens", "min_length", "seed", "random_seed", "num_return_sequences"),
        *("return_log_probs", "return_context_logits", "return_generation_logits", "return_perf_metrics"),
        *("return_kv_cache_reuse_stats", "return_num_input_tokens", "return_num_output_tokens"),
        *("exclude_input_in_output", "guided_decoding_guide_type", "guided_decoding_guide"),
        *("embedding_bias_words", "embedding_bias_weights", "lora_task_id", "lora_weights", "lora_config"),
        *("prompt_embedding_table", "prompt_vocab_size", "prompt_table_extra_id", "num_draft_tokens"),
        *("use_draft_logits", "decoder_text_input", "image_input", "image_bytes_input", "image_url_input"),
        *("video_bytes_input",),
    )
)
OUTPUTS: Final = frozenset(
    (
        *("text_output", "cum_log_probs", "output_log_probs", "batch_index", "sequence_index"),
        *("context_logits", "generation_logits", "kv_cache_alloc_new_blocks", "kv_cache_reused_blocks"),
        *("kv_cache_alloc_total_blocks", "arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns"),
        *("last_token_time_ns", "acceptance_rate", "total_accepted_draft_tokens", "total_draft_tokens"),
        *("num_input_tokens", "num_output_tokens"),
    )
)
