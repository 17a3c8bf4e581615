"""The surfaces by name, and which one the old names of models stand for."""

from collections.abc import Mapping
from typing import Final

from tritium.core.errors import InvalidArgument
from tritium.llm.facade.surface import Surface
from tritium.llm.facade.trtllm_text import TrtllmTextSurface
from tritium.llm.facade.trtllm_tokens import TrtllmTokensSurface
from tritium.llm.facade.vllm import VllmSurface

VLLM: Final = "vllm"
TRTLLM: Final = "trtllm"
TRTLLM_TOKENS: Final = "trtllm_tokens"

SURFACES: Mapping[str, Surface] = {
    VLLM: VllmSurface(),
    TRTLLM: TrtllmTextSurface(),
    TRTLLM_TOKENS: TrtllmTokensSurface(),
}

_OLD_NAMES: Mapping[str, str] = {
    "ensemble": TRTLLM,
    "tensorrt_llm_bls": TRTLLM,
    "tensorrt_llm": TRTLLM_TOKENS,
}


def surface_for(name: str) -> str:
    """Return the surface that a model of that name had where it comes from."""
    return _OLD_NAMES.get(name, VLLM)


def surface_named(name: str) -> Surface:
    """Return the surface of that name.

    Raises:
        InvalidArgument: there is none.
    """
    if name not in SURFACES:
        raise InvalidArgument(f"there is no surface '{name}'", hint=f"one of {', '.join(SURFACES)}")
    return SURFACES[name]
