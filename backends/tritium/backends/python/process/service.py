"""The main thread of a model's process: takes the host's tasks off the socket, and keeps the two arenas.

The server sees the end of the process; what it says before that is all that counts.
"""

import os
import socket
import sys
from typing import Any

from tritium.backends.python import frames
from tritium.backends.python.arena import InArena, OutArena
from tritium.backends.python.process.host import Host
from tritium.backends.python.process.link import Link
from tritium.backends.python.process.pump import Pump
from tritium.backends.python.process.tensors import TensorCodec
from tritium.compat import pb_utils


class Service:
    """One model instance and its way to the server."""

    def __init__(self, sock: socket.socket, inbound: int, outbound: int) -> None:
        self._pump = Pump(sock, self._take, self._extras)
        self._inbound = InArena(inbound, self._pump.flush)
        self._outbound = OutArena(outbound, lambda offset, size: self._pump.add(frames.Grown(offset, size)))
        self._control = self._outbound.control
        self._codec = TensorCodec(self._inbound, self._outbound)
        self._link = Link(self._pump, self._codec)
        self._host = Host(self._link, _import, self._begun)

    def run(self) -> None:
        """Serve until told to finalize."""
        pb_utils.install()
        pb_utils.bind(self._link)
        self._pump.post(frames.Started())
        try:
            going = True
            while going:
                going = self._host.serve(self._pump.next())
                # At once, although sharing a frame would be cheaper: what is finished neither waits for the next
                # execution nor is lost with it.
                self._pump.flush()
        except BaseException as end:  # noqa: BLE001  # sys.exit or the like: as sudden for the server as a crash
            self._pump.flush()
            sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            sys.stderr.flush()
            # No thread of the model may keep a process alive that nobody serves.
            os._exit(_status(end))

    def _begun(self, number: int) -> None:
        frames.BEGUN.pack_into(self._control, 0, number)

    def _take(
        self, message: frames.Answer | frames.Outcome | frames.Cancel | frames.Hold | frames.Grown | frames.Freed
    ) -> None:
        match message:
            case frames.Grown(offset, size):
                self._inbound.grow(offset, size)
            case frames.Freed(starts):
                self._codec.take_back(starts)
            case _:
                self._link.take(message)

    def _extras(self) -> list[frames.Up]:
        freed = self._inbound.take_freed() if self._inbound.freed else []
        return [frames.Freed(freed)] if freed else []


def _import(load: frames.Load) -> Any:
    sys.path += [*load.import_paths, pb_utils.IMPORTABLE]
    return __import__(load.import_name, fromlist=["TritonPythonModel"])


def _status(end: BaseException) -> int:
    """Return the status that a Python program which ended so would have."""
    if not isinstance(end, SystemExit):
        return 1
    if end.code is None:
        return 0
    return end.code & 0xFF if isinstance(end.code, int) else 1
