"""What a model costs on given GPUs: a roofline over data sheets, with four constants fitted to measurements.

A step reads the weights once and the KV of all its sequences (memory bandwidth), multiplies two operations a parameter
and token (arithmetic), and waits for launches and, over several GPUs, for two reductions a layer. The fit and what it
was compared with: docs/engines.md.
"""

from dataclasses import dataclass
from typing import Literal

from tritium.backends.mocker.timing import Polynomial
from tritium.core.errors import InvalidArgument

Precision = Literal["fp8", "bf16"]

MEMORY_SHARE = 0.9
"""Of a GPU's memory, what an engine takes; the weights leave the rest of it to the KV cache."""

# The fit: the share of the data sheet that is reached, and what a step and a reduction between GPUs cost at least.
_BANDWIDTH_SHARE = 0.9
_ARITHMETIC_SHARE = 0.6
_STEP_MS = 2.0
_REDUCTION_MS = 0.025


@dataclass(frozen=True, slots=True)
class Gpu:
    """From the data sheet: dense tensor operations (without sparsity), and memory."""

    bandwidth_bytes_s: float
    bf16_flops: float
    fp8_flops: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Model:
    """From the model's config.json; KV in two bytes a number."""

    parameters: float
    layers: int
    width: int
    kv_width: int

    @property
    def kv_bytes(self) -> int:
        """Return the bytes of keys and values a token."""
        return 2 * self.layers * self.kv_width * 2


GPUS = {
    "h100": Gpu(3.35e12, 989e12, 1979e12, 80e9),
    "h200": Gpu(4.8e12, 989e12, 1979e12, 141e9),
    "a100": Gpu(2.039e12, 312e12, 0.0, 80e9),
    "l40s": Gpu(0.864e12, 362e12, 733e12, 48e9),
}

MODELS = {
    "8b": Model(8.03e9, layers=32, width=4096, kv_width=1024),
    "70b": Model(70.6e9, layers=80, width=8192, kv_width=1024),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """One engine's machine: so many GPUs of a kind, and the model over all of them."""

    gpu: str
    model: str
    gpus: int
    precision: Precision

    def __post_init__(self) -> None:
        """Refuse what does not exist or does not fit."""
        if self.precision == "fp8" and not GPUS[self.gpu].fp8_flops:
            raise InvalidArgument(f"the {self.gpu} has no fp8", hint='set "precision": "bf16"')
        if self.kv_cache_bytes <= 0:
            raise InvalidArgument(
                f"the weights of {self.model} in {self.precision} do not fit into {self.gpus} {self.gpu}",
                hint='raise "gpus"',
            )

    @property
    def weight_bytes(self) -> float:
        """Return the size of the weights."""
        return MODELS[self.model].parameters * (1 if self.precision == "fp8" else 2)

    @property
    def kv_cache_bytes(self) -> float:
        """Return what is left for the KV cache."""
        return self.gpus * GPUS[self.gpu].memory_bytes * MEMORY_SHARE - self.weight_bytes

    def timing(self) -> Polynomial:
        """Return the length of steps."""
        gpu, model = GPUS[self.gpu], MODELS[self.model]
        bytes_ms = self.gpus * gpu.bandwidth_bytes_s * _BANDWIDTH_SHARE / 1e3
        peak = gpu.fp8_flops if self.precision == "fp8" else gpu.bf16_flops
        flops_ms = self.gpus * peak * _ARITHMETIC_SHARE / 1e3
        reductions_ms = 2 * model.layers * _REDUCTION_MS if self.gpus > 1 else 0.0
        token_ms = 2 * model.parameters / flops_ms
        return Polynomial(
            base_ms=_STEP_MS + self.weight_bytes / bytes_ms + reductions_ms,
            prompt_token_ms=token_ms,
            # Scores and their product with the values: four operations a pair and channel, of half the pairs (causal).
            prompt_square_ms=2 * model.layers * model.width / flops_ms,
            sequence_ms=token_ms,
            context_token_ms=model.kv_bytes / bytes_ms,
        )
