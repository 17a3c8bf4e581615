"""A Llama of some hundred million random parameters: large enough for a prompt to cost what prompts cost.

It speaks the vocabulary of the sample model, and is made anew where it is missing; its weights are never committed.
"""

# ruff: noqa: PLC0415  torch and transformers take seconds to import
import shutil
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[3] / "model_repository" / "tiny_chat" / "1" / "tiny_chat"
VOCABULARY = 1024
CONTEXT = 4352
"""The longest prompt that is measured, a turn more, and its answer."""


def make_llama(folder: Path, *, layers: int = 16, seed: int = 11) -> Path:
    """Write the model where it is not there yet; return the folder. 16 layers have 101 million parameters."""
    if (folder / "tokenizer.json").is_file():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=layers,
            num_attention_heads=12,
            num_key_value_heads=4,
            head_dim=64,
            max_position_embeddings=CONTEXT,
            initializer_range=0.08,  # wide enough for the best token to be best by more than what rounding moves
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=False,
        )
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer_config.json", "tokenizer.json"):  # the last one says that all is there
        shutil.copy(SAMPLE / name, folder)
    return folder
