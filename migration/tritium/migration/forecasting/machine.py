"""GPUs that a forecast can be made for; the numbers of NVIDIA's data sheets, dense, without sparsity."""

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU: memory and its bandwidth in bytes (a second), arithmetic in BF16 or FP16 a second."""

    name: str
    memory: float
    bandwidth: float
    flops: float


def _row(name: str, memory_gb: float, bandwidth_gb: float, teraflops: float) -> Gpu:
    return Gpu(name, memory_gb * GB, bandwidth_gb * GB, teraflops * 1e12)


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _row("t4", 16, 320, 65),
        _row("l4", 24, 300, 121),
        _row("a10", 24, 600, 125),
        _row("l40s", 48, 864, 362),
        _row("a100-40", 40, 1555, 312),
        _row("a100-80", 80, 2039, 312),
        _row("h100", 80, 3350, 989),
        _row("h200", 141, 4800, 989),
        _row("b200", 180, 8000, 2250),
    )
}
