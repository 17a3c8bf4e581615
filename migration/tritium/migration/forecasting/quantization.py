"""How many bytes a weight takes in a checkpoint: in linear layers, which quantisation packs, and in all others.

Embeddings, heads, norms and the gates of experts stay as they were in every one of these formats.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_PLAIN = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
_BITS = re.compile(r'"(?:bits|num_bits|w_bit)": (\d+)')
_GROUP = re.compile(r'"(?:q_)?group_size": (\d+)')
_FOUR = re.compile(r"fp4|int4|4bit|4_bit|w4a|awq|gptq")
_EIGHT = re.compile(r"fp8|float8|int8|8bit|8_bit|w8a|smoothquant")
# Bits that a weight's share of its block's scale takes: 8 of 16 weights (NVFP4), 8 of 32 (OCP's MX formats).
_BLOCKS = {"nvfp4": 8 / 16, "mxfp4": 8 / 32}
_SCALE_BITS = 16
_USUAL_GROUP = 128


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of a weight in linear layers, with its share of scales, and elsewhere."""

    linear: float
    other: float


def storage(dtype: str, quantization: Any) -> Storage:
    """Read a checkpoint's dtype and its quantization_config (an engine's: its quantization)."""
    other = _PLAIN.get(dtype, 2.0)
    text = json.dumps(quantization or "").lower()
    bits = _bits(text)
    if bits is None:
        return Storage(other, other)
    if bits > 4:
        return Storage(bits / 8, other)
    block = next((share for name, share in _BLOCKS.items() if name in text), None)
    if block is None:
        group = _GROUP.search(text)
        # Group-wise formats keep a scale in 16 bits and a zero of the weights' own width.
        block = (_SCALE_BITS + bits) / (int(group[1]) if group and int(group[1]) else _USUAL_GROUP)
    return Storage((bits + block) / 8, other)


def _bits(text: str) -> float | None:
    if found := _BITS.search(text):
        return float(found[1])
    if _FOUR.search(text):
        return 4.0
    return 8.0 if _EIGHT.search(text) else None
