"""Names, datatypes and dimensions of the tensors of TensorRT-LLM's models for Triton.

Source: NVIDIA/TensorRT-LLM, triton_backend/all_models/inflight_batcher_llm, config.pbtxt of ensemble, tensorrt_llm_bls
and tensorrt_llm; the names that older releases had are beside those that replaced them.
"""

from typing import Final

from tritium.llm.facade.outputs import TensorRow

MAX_BATCH_SIZE: Final = 64
"""Prompts in one request, where no config.pbtxt says how many."""


def _one(datatype: str, *names: str) -> tuple[TensorRow, ...]:
    return tuple((name, datatype, [1]) for name in names)


_SAMPLING: Final[tuple[TensorRow, ...]] = (
    *_one("INT32", "num_return_sequences", "end_id", "pad_id", "beam_width", "min_tokens", "min_length"),
    *_one("FP32", "temperature", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    *_one("UINT64", "seed", "random_seed", "lora_task_id"),
    *_one("BOOL", "return_log_probs", "return_context_logits", "return_generation_logits", "return_perf_metrics"),
    *_one("BOOL", "return_kv_cache_reuse_stats", "return_num_input_tokens", "return_num_output_tokens"),
    *_one("BOOL", "exclude_input_in_output"),
    *_one("BYTES", "guided_decoding_guide_type", "guided_decoding_guide"),
    ("prompt_embedding_table", "FP16", [-1, -1]),
    ("prompt_vocab_size", "INT32", [1]),
    ("lora_weights", "FP16", [-1, -1]),
    ("lora_config", "INT32", [-1, 3]),
)

TEXT_INPUTS: Final[tuple[TensorRow, ...]] = (
    ("text_input", "BYTES", [1]),
    ("decoder_text_input", "BYTES", [1]),
    ("image_input", "FP16", [-1, 3, -1, -1]),
    ("image_bytes_input", "UINT8", [-1, -1, -1, -1]),
    ("image_url_input", "BYTES", [1]),
    ("video_bytes_input", "UINT8", [-1, -1, -1, -1]),
    ("max_tokens", "INT32", [1]),
    ("bad_words", "BYTES", [-1]),
    ("stop_words", "BYTES", [-1]),
    ("embedding_bias_words", "BYTES", [-1]),
    ("embedding_bias_weights", "FP32", [-1]),
    ("top_k", "INT32", [1]),
    ("top_p", "FP32", [1]),
    ("length_penalty", "FP32", [1]),
    ("stream", "BOOL", [1]),
    ("num_draft_tokens", "INT32", [1]),
    ("use_draft_logits", "BOOL", [1]),
    ("prompt_table_extra_id", "UINT64", [1]),
    *_SAMPLING,
)
TOKEN_INPUTS: Final[tuple[TensorRow, ...]] = (
    ("input_ids", "INT32", [-1]),
    ("input_lengths", "INT32", [1]),
    ("request_output_len", "INT32", [1]),
    ("draft_input_ids", "INT32", [-1]),
    ("draft_logits", "FP32", [-1, -1]),
    ("draft_acceptance_threshold", "FP32", [1]),
    ("decoder_input_ids", "INT32", [-1]),
    ("decoder_input_lengths", "INT32", [1]),
    ("stop_words_list", "INT32", [2, -1]),
    ("bad_words_list", "INT32", [2, -1]),
    ("embedding_bias", "FP32", [-1]),
    ("runtime_top_k", "INT32", [1]),
    ("runtime_top_p", "FP32", [1]),
    ("runtime_top_p_min", "FP32", [1]),
    ("runtime_top_p_decay", "FP32", [1]),
    ("runtime_top_p_reset_ids", "INT32", [1]),
    ("len_penalty", "FP32", [1]),
    ("early_stopping", "BOOL", [1]),
    ("beam_search_diversity_rate", "FP32", [1]),
    ("stop", "BOOL", [1]),
    ("streaming", "BOOL", [1]),
    ("prompt_table_extra_ids", "UINT64", [-1]),
    ("retention_token_range_starts", "INT32", [-1]),
    ("retention_token_range_ends", "INT32", [-1]),
    ("retention_token_range_priorities", "INT32", [-1]),
    ("retention_token_range_durations_ms", "INT32", [-1]),
    ("retention_decode_priority", "INT32", [1]),
    ("retention_decode_duration_ms", "INT32", [1]),
    ("lookahead_window_size", "INT32", [1]),
    ("lookahead_ngram_size", "INT32", [1]),
    ("lookahead_verification_set_size", "INT32", [1]),
    *_SAMPLING,
)

_OUTPUTS: Final[tuple[TensorRow, ...]] = (
    ("cum_log_probs", "FP32", [-1]),
    ("output_log_probs", "FP32", [-1, -1]),
    ("context_logits", "FP32", [-1, -1]),
    ("generation_logits", "FP32", [-1, -1, -1]),
    *_one("INT32", "batch_index", "sequence_index"),
    *_one("INT32", "kv_cache_alloc_new_blocks", "kv_cache_reused_blocks", "kv_cache_alloc_total_blocks"),
    *_one("INT64", "arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns"),
    ("acceptance_rate", "FP32", [1]),
    *_one("INT32", "total_accepted_draft_tokens", "total_draft_tokens", "num_input_tokens", "num_output_tokens"),
)
TEXT_OUTPUTS: Final[tuple[TensorRow, ...]] = (("text_output", "BYTES", [-1]), *_OUTPUTS)
TOKEN_OUTPUTS: Final[tuple[TensorRow, ...]] = (
    ("output_ids", "INT32", [-1, -1]),
    ("sequence_length", "INT32", [-1]),
    *_OUTPUTS,
)
