"""How large a language model is, from the config.json of its checkpoint or of its TensorRT-LLM engine.

Parameters are counted from the shapes of the layers: Llama's kind (gated MLP, grouped queries), mixtures of experts,
and multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritium.migration.forecasting.quantization import storage


class BadCheckpoint(Exception):
    """No config.json, or one without the sizes of a language model."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes that memory and time follow from; `active` parameters are those that a token passes."""

    name: str
    layers: int
    heads: int
    head_dim: int
    parameters: float
    active: float
    weight_bytes: float
    kv_values: int
    """Numbers that a token leaves in the cache, over all layers."""

    def kv_bytes(self, bytes_each: float) -> float:
        """Return what a token takes in the cache (two rows a KV head and layer: arXiv 2309.06180, section 3)."""
        return self.kv_values * bytes_each


def read_size(path: Path, bytes_per_weight: float | None = None) -> ModelSize:
    """Read a config.json, or the one in a folder.

    Raises:
        BadCheckpoint: it is not there or lacks a size; the message names which.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file}: {error}") from error
    if not isinstance(document, dict):
        raise BadCheckpoint(f"{file} is no config.json of a checkpoint")
    # An engine's is under pretrained_config, the text part of a model with images under text_config.
    values = document.get("pretrained_config") or document.get("text_config") or document
    return _size(path.stem if path.is_file() else path.name, _Values(values, file), document, bytes_per_weight)


class _Values:
    """The members of a configuration, under any of the names that they go by."""

    def __init__(self, values: dict[str, Any], file: Path) -> None:
        self._values, self._file = values, file

    def optional(self, *names: str) -> int:
        """Return a whole number, 0 where it is not there."""
        return next((int(self._values[name]) for name in names if isinstance(self._values.get(name), int)), 0)

    def needed(self, *names: str) -> int:
        """Return a whole number above 0."""
        if found := self.optional(*names):
            return found
        raise BadCheckpoint(f"{self._file} has no {' or '.join(names)}: is it the config.json of a language model?")

    def text(self, *names: str) -> str:
        """Return a text, empty where it is not there."""
        return next((str(self._values[name]) for name in names if isinstance(self._values.get(name), str)), "")

    def quantization(self, document: dict[str, Any]) -> Any:
        """Return what is said of quantised weights, beside the sizes or around them; None where nothing is."""
        own = self._values.get("quantization_config") or self._values.get("quantization")
        return own or document.get("quantization_config")


def _size(name: str, values: _Values, document: dict[str, Any], bytes_per_weight: float | None) -> ModelSize:
    hidden = values.needed("hidden_size", "n_embd")
    layers = values.needed("num_hidden_layers", "n_layer")
    heads = values.needed("num_attention_heads", "n_head")
    head_dim = values.optional("head_dim", "head_size") or hidden // heads
    kv_heads = values.optional("num_key_value_heads") or heads
    inner = values.optional("intermediate_size", "ffn_hidden_size", "n_inner") or 4 * hidden
    latent = values.optional("kv_lora_rank")
    if latent:
        attention, kv_values = _latent_attention(values, hidden, heads, latent)
    else:
        attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
        kv_values = 2 * kv_heads * head_dim
    experts = values.optional("n_routed_experts", "num_local_experts", "num_experts")
    dense = 3 * hidden * inner
    every = active = dense
    dense_layers = layers
    if experts:
        expert = 3 * hidden * (values.optional("moe_intermediate_size") or inner)
        shared = values.optional("n_shared_experts") * expert
        shared += 3 * hidden * values.optional("shared_expert_intermediate_size")
        every = experts * expert + shared + experts * hidden
        active = values.needed("num_experts_per_tok", "moe_topk") * expert + shared + experts * hidden
        dense_layers = values.optional("first_k_dense_replace")
    sparse_layers = layers - dense_layers
    embedding = values.needed("vocab_size") * hidden
    ends = embedding if document.get("tie_word_embeddings") else 2 * embedding
    common = ends + layers * (attention + 2 * hidden) + dense_layers * dense
    parameters = float(common + sparse_layers * every)
    kept = storage(values.text("dtype", "torch_dtype"), values.quantization(document))
    # Not in linear layers: embeddings and head, norms, gates of experts.
    others = ends + layers * 2 * hidden + sparse_layers * experts * hidden
    stored = others * kept.other + (parameters - others) * kept.linear
    return ModelSize(
        name,
        layers,
        heads,
        head_dim,
        parameters,
        float(common + sparse_layers * active),
        parameters * bytes_per_weight if bytes_per_weight else stored,
        layers * kv_values,
    )


def _latent_attention(values: _Values, hidden: int, heads: int, latent: int) -> tuple[int, int]:
    nope, rope = values.needed("qk_nope_head_dim"), values.needed("qk_rope_head_dim")
    value, low = values.needed("v_head_dim"), values.optional("q_lora_rank")
    queries = hidden * low + low * heads * (nope + rope) if low else hidden * heads * (nope + rope)
    return queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden, latent + rope
