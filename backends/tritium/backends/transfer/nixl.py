"""KV blocks by NIXL: a peer reads them straight out of this worker's registered memory, over UCX.

UCX chooses the path: shared memory on one machine, RDMA or TCP between machines. The address carries the agent's
metadata and where the region begins, so that no other channel is needed.
"""

import base64
import mmap
import os
import secrets
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tritium.backends.transfer.transport import Pieces, Read, ReadState
from tritium.kv.nixl_package import import_nixl

_NIXL = import_nixl()
_FAILURES: tuple[type[Exception], ...] = (*_NIXL.faults, msgspec.DecodeError)


class _Address(msgspec.Struct, array_like=True):
    """What `address` says: the agent's metadata, and where its region begins in its memory."""

    metadata: bytes
    base: int


class NixlTransport:
    """One NIXL agent with one registered region."""

    name = "nixl"

    def __init__(self, worker: str) -> None:
        # Names are global among agents that meet.
        name = f"{worker}-{os.getpid()}-{secrets.token_hex(4)}"
        self._agent: Any = _NIXL.api.nixl_agent(name, _NIXL.api.nixl_agent_config(backends=["UCX"]))
        self.address = ""
        self._base = 0
        self._region = np.empty(0, np.uint8)
        self._registered: Any = None
        self._peers: dict[str, tuple[str, _Address]] = {}

    def allocate(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Make the region and register it."""
        self._region = np.frombuffer(mmap.mmap(-1, size_bytes), np.uint8)
        self._base = self._region.ctypes.data
        self._registered = self._agent.register_memory([(self._base, size_bytes, 0, "kv")], "DRAM")
        address = _Address(self._agent.get_agent_metadata(), self._base)
        self.address = base64.b64encode(msgspec.msgpack.encode(address)).decode()
        return self._region

    def read(self, address: str, pieces: Pieces, note: str) -> Read:
        """Begin a read; the first one from a peer introduces the two agents."""
        try:
            name, remote = self._introduce(address)
            handle = self._agent.initialize_xfer(
                "READ",
                self._descriptors(self._base + pieces.local, pieces.piece_bytes),
                self._descriptors(remote.base + pieces.remote, pieces.piece_bytes),
                name,
                note.encode(),
            )
        except _FAILURES as reason:
            self._peers.pop(address, None)
            return _FailedRead(str(reason))
        return _NixlRead(self._agent, handle)

    def tell(self, address: str, note: str) -> None:
        """Send a notification."""
        try:
            self._agent.send_notif(self._introduce(address)[0], note.encode())
        except _FAILURES:
            self._peers.pop(address, None)

    def take_notes(self) -> list[str]:
        """Return the notes that came with the end of peers' reads."""
        return [note.decode(errors="replace") for notes in self._agent.get_new_notifs().values() for note in notes]

    def close(self) -> None:
        """Leave the peers and take the region back."""
        for name, _ in self._peers.values():
            self._agent.remove_remote_agent(name)
        if self._registered is not None:
            self._agent.deregister_memory(self._registered)
        self._agent = None

    def _introduce(self, address: str) -> tuple[str, _Address]:
        if address not in self._peers:
            remote = msgspec.msgpack.decode(base64.b64decode(address), type=_Address)
            self._peers[address] = self._agent.add_remote_agent(remote.metadata), remote
        return self._peers[address]

    def _descriptors(self, starts: npt.NDArray[np.int64], size: int) -> Any:
        table = np.zeros((len(starts), 3), np.uint64)
        table[:, 0] = starts
        table[:, 1] = size
        return self._agent.get_xfer_descs(table, "DRAM")


class _NixlRead:
    """A posted transfer; its handle is released when it is over."""

    def __init__(self, agent: Any, handle: Any) -> None:
        self.reason = ""
        self._agent = agent
        self._handle = handle
        self._posted = False

    def poll(self) -> ReadState:
        try:
            if self._posted:
                status = self._agent.check_xfer_state(self._handle)
            else:
                self._posted = True
                status = self._agent.transfer(self._handle)
        except _FAILURES as reason:
            self.reason = str(reason)
            status = "ERR"
        if status == "PROC":
            return ReadState.PENDING
        self._agent.release_xfer_handle(self._handle)
        if status == "DONE":
            return ReadState.DONE
        self.reason = self.reason or "NIXL reports an error of the transfer"
        return ReadState.FAILED


class _FailedRead:
    """A read that could not begin."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def poll(self) -> ReadState:
        return ReadState.FAILED
