"""The GPUs of this machine, as instance groups may name them."""

import re
from pathlib import Path


def installed_gpus(devices: Path = Path("/dev")) -> tuple[int, ...]:
    """Return the numbers of the NVIDIA devices that the driver shows."""
    if not devices.is_dir():
        return ()
    numbers = (re.fullmatch(r"nvidia(\d+)", entry.name) for entry in devices.iterdir())
    return tuple(sorted(int(match.group(1)) for match in numbers if match))
