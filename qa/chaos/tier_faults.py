"""vLLM's connector of ours with faults on purpose, in place of it by `kv_connector_module_path`.

A fault is a file in the folder that `faults` names, put there and taken away while the engine runs:

    stop         has the name of a phase: the process that comes to it puts its pid in `stopped`, and stays there
    slow_s       has seconds: so much longer takes every block that is read from disk or an object store
    full         every write of the disk tier finds no space left
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tritium.backends.vllm.tiers.connector import TieredConnector as Connector
from tritium.backends.vllm.tiers.layout import Layout
from tritium.kv.disk import DiskTier
from tritium.kv.objects import ObjectTier
from tritium.kv.slab import RECORD_BYTES, Slab

MODULE = "qa.chaos.tier_faults"
OFFLOAD = ("before_gather", "before_write", "mid_write", "before_index", "mid_index", "after_index")
ONBOARD = ("before_read", "mid_read", "before_scatter", "mid_scatter", "after_scatter")


class Faults:
    """The folder of faults, on either side: who makes them, and the process that has them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, name: str, value: str = "1") -> None:
        """Have a fault from now on."""
        (self._folder / f"{name}.new").write_text(value)
        (self._folder / f"{name}.new").rename(self._folder / name)

    def end(self, name: str) -> None:
        """Have it no longer."""
        (self._folder / name).unlink(missing_ok=True)

    def get(self, name: str) -> str:
        """Return a fault's value; empty where it is not set."""
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def reach(self, phase: str) -> None:
        """Come to a phase; stay there where that is asked for."""
        if self.get("stop") == phase:
            self.set("stopped", str(os.getpid()))
            while True:
                time.sleep(3600)


class TieredConnector(Connector):
    """The connector, as it is but for the faults."""

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Put the faults in before the tiers open."""
        _install(Faults(Path(self._kv_transfer_config.kv_connector_extra_config["faults"])))
        super().register_kv_caches(kv_caches)


def _install(faults: Faults) -> None:
    _around(Layout, "gather", lambda: faults.reach("before_gather"))
    _around(Layout, "scatter", lambda: faults.reach("before_scatter"), lambda: faults.reach("after_scatter"))
    _around(DiskTier, "write", lambda: faults.reach("before_write"), lambda: faults.reach("after_index"))
    _around(DiskTier, "read", lambda: faults.reach("before_read"))
    _around(Slab, "note", lambda: faults.reach("before_index"))
    for tier in (DiskTier, ObjectTier):
        _slow(tier, faults)
    _cut_writes(faults)
    _cut_records(faults)
    _cut_reads(faults)
    _cut_scatter(faults)


def _around(owner: type, name: str, before: Callable[[], None], after: Callable[[], None] = lambda: None) -> None:
    whole = getattr(owner, name)

    def around(*given: Any, **named: Any) -> Any:
        before()
        result = whole(*given, **named)
        after()
        return result

    setattr(owner, name, around)


def _slow(owner: type, faults: Faults) -> None:
    whole = owner.read  # type: ignore[attr-defined]

    def read(self: Any, entries: Sequence[Any], into: Sequence[memoryview]) -> Any:
        time.sleep(len(entries) * float(faults.get("slow_s") or 0))
        return whole(self, entries, into)

    owner.read = read  # type: ignore[attr-defined]


def _cut_writes(faults: Faults) -> None:
    """Write half of the first block of a run and stop; or none, for want of space."""
    whole = DiskTier._write_run

    def write(self: DiskTier, slab: Slab, places: list[int], entries: Any, blocks: Any, *more: Any) -> None:
        if faults.get("full"):
            raise OSError(errno.ENOSPC, "no space left on device")
        if faults.get("stop") == "mid_write":
            file = os.open(slab.directory / "blocks.dat", os.O_WRONLY)
            start = self._place(entries[places[0]])[1] * self._stride
            os.pwrite(file, blocks[places[0]][: blocks[places[0]].nbytes // 2], start)
            faults.reach("mid_write")
        whole(self, slab, places, entries, blocks, *more)

    DiskTier._write_run = write  # type: ignore[method-assign, assignment]


def _cut_records(faults: Faults) -> None:
    """Write half of a record of the index and stop."""
    whole = os.pwrite

    def write(file: int, data: Any, offset: int) -> int:
        if len(data) == RECORD_BYTES and any(data) and faults.get("stop") == "mid_index":
            whole(file, data[: RECORD_BYTES // 2], offset)
            faults.reach("mid_index")
        return whole(file, data, offset)

    os.pwrite = write


def _cut_reads(faults: Faults) -> None:
    """Fill half of what is read and stop."""
    whole = DiskTier._read_run

    def read(self: DiskTier, slab: Slab, places: list[int], entries: Any, into: Any) -> list[int]:
        if faults.get("stop") == "mid_read":
            half = len(places) // 2 or 1
            whole(self, slab, places[:half], entries, into)
            faults.reach("mid_read")
        return whole(self, slab, places, entries, into)

    DiskTier._read_run = read  # type: ignore[method-assign]


def _cut_scatter(faults: Faults) -> None:
    """Copy half of the blocks to the device and stop."""
    whole = Layout.scatter

    def scatter(self: Layout, rows: torch.Tensor, blocks: Sequence[int]) -> Any:
        if faults.get("stop") == "mid_scatter":
            half = len(blocks) // 2 or 1
            whole(self, rows[:half], blocks[:half])
            faults.reach("mid_scatter")
        return whole(self, rows, blocks)

    Layout.scatter = scatter  # type: ignore[method-assign]
