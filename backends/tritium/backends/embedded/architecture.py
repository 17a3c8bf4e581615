"""What a Hugging Face model folder says of its model: read once, refused clearly where this engine cannot run it.

Known are the decoders of Llama's shape: RMS norm, rotary positions, grouped queries, gated SiLU layers.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritium.core.errors import InvalidArgument, NotFound, Unsupported

KNOWN = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
HINT = f"the embedded engine runs {', '.join(KNOWN)}; install the vllm extra for others"


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: the base, and how the frequencies are stretched ("default", "linear", "llama3")."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_factor: float = 1.0
    high_factor: float = 4.0
    original_positions: int = 8192

    def frequencies(self, head_width: int) -> npt.NDArray[np.float32]:
        """Return the angle per position of each pair of a head, shape (head_width / 2,)."""
        plain = 1.0 / self.theta ** (np.arange(0, head_width, 2, dtype=np.float32) / head_width)
        if self.kind == "linear":
            return (plain / self.factor).astype(np.float32)
        if self.kind == "default":
            return plain.astype(np.float32)
        # llama3: long waves are stretched, short ones kept, those between blended (Llama 3.1's model card).
        waves = 2 * math.pi / plain
        share = (self.original_positions / waves - self.low_factor) / (self.high_factor - self.low_factor)
        share = np.clip(share, 0.0, 1.0)
        return ((1 - share) * plain / self.factor + share * plain).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of a model. Widths count float elements; `positions` is the longest context it was made for."""

    name: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    norm_epsilon: float
    rope: Rope
    tied: bool
    positions: int
    end_tokens: frozenset[int]


def read_architecture(folder: Path) -> Architecture:
    """Read `config.json` and `generation_config.json` of a model folder.

    Raises:
        NotFound: there is no config.json.
        InvalidArgument: it cannot be read, or lacks what every such model has.
        Unsupported: the architecture, or an option of it, is not one of those known here.
    """
    config = _read_json(folder / "config.json")
    name = (config.get("architectures") or ["(none named)"])[0]
    if name not in KNOWN:
        raise Unsupported(f"{folder}: architecture {name} is not known", HINT)
    for option, reason in _refused(config):
        raise Unsupported(f"{folder}: {name} with {option} {reason}", HINT)
    try:
        heads = int(config["num_attention_heads"])
        width = int(config["hidden_size"])
        generation = folder / "generation_config.json"
        ends = [config.get("eos_token_id")]
        if generation.exists():
            ends.append(_read_json(generation).get("eos_token_id"))
        return Architecture(
            name=name,
            vocabulary=int(config["vocab_size"]),
            width=width,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_width=int(config.get("head_dim") or width // heads),
            mlp_width=int(config["intermediate_size"]),
            norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
            rope=_read_rope(config, folder),
            tied=bool(config.get("tie_word_embeddings", False)),
            positions=int(config.get("max_position_embeddings", 2048)),
            end_tokens=frozenset(_flat(ends)),
        )
    except KeyError as missing:
        raise InvalidArgument(f"{folder / 'config.json'}: {missing} is missing") from None
    except (TypeError, ValueError) as reason:
        raise InvalidArgument(f"{folder / 'config.json'}: {reason}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", "the model folder must be a Hugging Face one") from None
    except ValueError as reason:
        raise InvalidArgument(f"{path}: {reason}") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"{path}: an object was expected")
    return content


def _refused(config: dict[str, Any]) -> list[tuple[str, str]]:
    """List the options that would change the computation in a way that this engine does not follow."""
    found = []
    if config.get("hidden_act", "silu") != "silu":
        found.append((f"hidden_act={config['hidden_act']}", "is not supported"))
    if config.get("quantization_config"):
        found.append(("quantization_config", "is not supported: the weights must be F32, F16 or BF16"))
    slides = config.get("use_sliding_window", config.get("sliding_window") is not None)
    window = config.get("sliding_window")
    if slides and window is not None and int(window) < int(config.get("max_position_embeddings", 0)):
        found.append((f"sliding_window={window}", "is not supported"))
    return found


def _read_rope(config: dict[str, Any], folder: Path) -> Rope:
    # transformers 5 writes rope_parameters, earlier versions rope_theta and rope_scaling.
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta", config.get("rope_theta", 10000.0)))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in {"default", "linear", "llama3"}:
        raise Unsupported(f"{folder}: rope type {kind} is not supported", "default, linear and llama3 are")
    return Rope(
        theta,
        kind,
        factor=float(scaling.get("factor", 1.0)),
        low_factor=float(scaling.get("low_freq_factor", 1.0)),
        high_factor=float(scaling.get("high_freq_factor", 4.0)),
        original_positions=int(scaling.get("original_max_position_embeddings", 8192)),
    )


def _flat(values: list[Any]) -> list[int]:
    flat: list[int] = []
    for value in values:
        if isinstance(value, list):
            flat += [int(each) for each in value]
        elif value is not None:
            flat.append(int(value))
    return flat
