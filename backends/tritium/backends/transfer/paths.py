"""By which path KV moves between workers: what an operator may ask for, and what UCX and engines are told for it.

auto   UCX chooses: RDMA where there is a device, shared memory on one host, TCP otherwise
rdma   InfiniBand or RoCE alone; refused at start where the machine has none
tcp    TCP alone, whatever else there is
shm    memory of the same host; workers on others are reached by TCP
"""

import os
from enum import StrEnum
from pathlib import Path

from tritium.core.errors import Unavailable

_DEVICES = Path("/sys/class/infiniband")
"""Where Linux lists RDMA devices."""

_GPU = "cuda_copy,cuda_ipc"
"""Transports without which UCX cannot read GPU memory; it passes over those that are not there."""


class TransferPath(StrEnum):
    """What an operator asks for."""

    AUTO = "auto"
    RDMA = "rdma"
    TCP = "tcp"
    SHM = "shm"


def ucx_environment(path: TransferPath) -> dict[str, str]:
    """Return the environment that confines UCX to a path; nothing where it may choose."""
    match path:
        case TransferPath.AUTO:
            return {}
        case TransferPath.RDMA:
            return {"UCX_TLS": f"rc,dc,ud,{_GPU},self"}
        case TransferPath.TCP:
            return {"UCX_TLS": f"tcp,{_GPU},self"}
        case TransferPath.SHM:
            # Without TCP, UCX cannot tell when the other side is gone, and NIXL does not start.
            return {"UCX_TLS": f"sm,tcp,{_GPU},self"}


def transport_of(path: TransferPath) -> str:
    """Return the transport of our own engines for a path, as `open_transport` takes it."""
    return {TransferPath.AUTO: "", TransferPath.SHM: "shm"}.get(path, "nixl")


def prepare_path(path: TransferPath) -> None:
    """Confine UCX in this process and those that it starts; what the environment says already stays.

    Raises:
        Unavailable: RDMA is asked for, and there is no device.
    """
    if path is TransferPath.RDMA and not any(_DEVICES.glob("*")):
        raise Unavailable(
            f"transfer=rdma, but this machine has no RDMA device ({_DEVICES} is empty)",
            hint="write transfer=tcp or transfer=auto in the fleet's setting",
        )
    for name, value in ucx_environment(path).items():
        os.environ.setdefault(name, value)
