"""The surfaces by name, and which one the old names of models stand for."""

from collections.abc import Collection, Mapping
from typing import Final

from tritium.core.errors import InvalidArgument
from tritium.llm.facade.surface import Surface
from tritium.llm.facade.trtllm_llmapi import TrtllmLlmapiSurface
from tritium.llm.facade.trtllm_text import TrtllmTextSurface
from tritium.llm.facade.trtllm_tokens import TrtllmTokensSurface
from tritium.llm.facade.vllm import VllmSurface

VLLM: Final = "vllm"
TRTLLM: Final = "trtllm"
TRTLLM_TOKENS: Final = "trtllm_tokens"
TRTLLM_LLMAPI: Final = "trtllm_llmapi"

SURFACES: Mapping[str, Surface] = {
    VLLM: VllmSurface(),
    TRTLLM: TrtllmTextSurface(),
    TRTLLM_TOKENS: TrtllmTokensSurface(),
    TRTLLM_LLMAPI: TrtllmLlmapiSurface(),
}

_OLD_NAMES: Mapping[str, str] = {
    "ensemble": TRTLLM,
    "tensorrt_llm_bls": TRTLLM,
    "tensorrt_llm": TRTLLM_TOKENS,
}


def surface_for(name: str) -> str:
    """Return the surface that a model of that name had where it comes from."""
    return _OLD_NAMES.get(name, VLLM)


def surface_of(inputs: Collection[str]) -> str:
    """Return the surface of a model whose configuration declares these inputs: vllm_backend's where it has none."""
    if "input_ids" in inputs:
        return TRTLLM_TOKENS
    if any(name.startswith("sampling_param_") for name in inputs):
        return TRTLLM_LLMAPI
    return TRTLLM if {"text_input", "max_tokens"} <= set(inputs) else VLLM


def surface_named(name: str) -> Surface:
    """Return the surface of that name.

    Raises:
        InvalidArgument: there is none.
    """
    if name not in SURFACES:
        raise InvalidArgument(f"there is no surface '{name}'", hint=f"one of {', '.join(SURFACES)}")
    return SURFACES[name]
