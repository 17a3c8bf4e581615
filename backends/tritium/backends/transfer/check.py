"""Whether KV moves between two processes here, by which path, and how fast: tried before a fleet takes requests.

    begin_check(kind) -> a process with a region -> asks a second one to read it    (`python -m ...transfer.check`)
    check.result()    -> TransferCheck(path, bytes_s) or its fault

The processes inherit the environment, so that they are bound to what the engine is bound to.
"""

import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass
from subprocess import PIPE

import msgspec
import numpy as np

from tritium.backends.transfer.transport import Pieces, ReadState, open_transport

SIZE_BYTES = 32 << 20
PIECES = 32
ROUNDS = 4
"""The first read of a pair introduces the two agents and touches all memory: the best counts."""

LIMIT_S = 60.0

_MODULE = "tritium.backends.transfer.check"

_MARK = "transfer-check "

_LANES = re.compile(r"(?:intra|inter)-node cfg#\d+.* am\(([^)]*)\)")
"""UCX tells of every peer by which lanes messages and large reads go, e.g. `am(tcp/lo cma/memory)`."""


class TransferCheck(msgspec.Struct, frozen=True):
    """How KV moves: `path` in UCX's words, or "memory" for shared memory of our own; or why it does not."""

    transport: str = ""
    path: str = ""
    bytes_s: float = 0.0
    fault: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the operator should know of it."""
        if not self.fault:
            return ()
        words = f"KV did not move between two processes here ({self.fault})"
        return (f"{words}: prompts may be computed where they decode",)


@dataclass(slots=True)
class RunningCheck:
    """A check under way."""

    process: asyncio.subprocess.Process

    async def result(self) -> TransferCheck:
        """Wait for the outcome; never longer than the limit."""
        try:
            said, complaint = await asyncio.wait_for(self.process.communicate(), LIMIT_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            return TransferCheck(fault=f"no bytes moved within {LIMIT_S:g} s")
        lines = said.decode(errors="replace").splitlines()
        found = next((line[len(_MARK) :] for line in lines if line.startswith(_MARK)), None)
        if found is None:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:] or ["it ended without a word"]
            return TransferCheck(fault=last[0])
        lanes = next((match[1] for line in lines if (match := _LANES.search(line))), "")
        check = msgspec.json.decode(found, type=TransferCheck)
        return msgspec.structs.replace(check, path=lanes or check.path)


async def begin_check(kind: str) -> RunningCheck:
    """Begin to move bytes by a transport, "" for the one that there is."""
    environment = {**os.environ, "UCX_LOG_LEVEL": "info"}
    command = (sys.executable, "-m", _MODULE, kind)
    return RunningCheck(await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment))


async def _own(kind: str) -> TransferCheck:
    """Own a region, have another process read it, and report what that one says."""
    transport = open_transport(kind, "check-owner")
    transport.allocate(SIZE_BYTES)[:] = 7
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _MODULE, transport.name, transport.address, stdout=PIPE
    )
    said, _ = await reader.communicate()
    transport.close()
    # UCX writes to standard output as well: what it says is passed on.
    sys.stdout.write(said.decode(errors="replace"))
    if reader.returncode:
        raise OSError(f"the reading process ended with status {reader.returncode}")
    return TransferCheck()


def _read(kind: str, address: str) -> TransferCheck:
    """Read another process's region some times."""
    transport = open_transport(kind, "check-reader")
    region = transport.allocate(SIZE_BYTES)
    size = SIZE_BYTES // PIECES
    starts = np.arange(PIECES, dtype=np.int64) * size
    best_s = float("inf")
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        read = transport.read(address, Pieces(starts, starts, size), "check")
        while (state := read.poll()) is ReadState.PENDING:
            time.sleep(0)
        if state is ReadState.FAILED:
            raise OSError(read.reason)
        best_s = min(best_s, time.perf_counter() - began_s)
    if int(region.min()) != 7 or int(region.max()) != 7:
        raise OSError("what arrived is not what was sent")
    transport.close()
    return TransferCheck(transport.name, "memory" if kind == "shm" else "", SIZE_BYTES / best_s)


def _main(kind: str, address: str = "") -> None:
    if not address:
        asyncio.run(_own(kind))
        return
    check = _read(kind, address)
    sys.stdout.write(f"\n{_MARK}{msgspec.json.encode(check).decode()}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
