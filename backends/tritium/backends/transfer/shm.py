"""KV blocks by shared memory, between workers of one user on one machine.

The region is an anonymous memory file. A peer connects to an abstract Unix socket, is handed the file read-only,
maps it and copies for itself; its notes come back on the same connection. Neither the file nor the socket has a
name in any file system, so that nothing is left behind, whatever kills a worker.
"""

import mmap
import os
import secrets
import selectors
import socket
import struct
import threading
from collections import deque
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SHRINK, fcntl

import numpy as np
import numpy.typing as npt

from tritium.backends.transfer.transport import Pieces, Read, ReadState

_SCHEME = "shm:"


class ShmTransport:
    """The region, the listener that hands it out, and the peers whose regions are mapped here."""

    name = "shm"

    def __init__(self, worker: str) -> None:
        self.address = f"{_SCHEME}tritium-kv-{os.getpid()}-{worker}-{secrets.token_hex(4)}"
        self._region = np.empty(0, np.uint8)
        self._peers: dict[str, _Peer] = {}
        self._notes: deque[str] = deque()
        self._listener: _Listener | None = None

    def allocate(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Make the region; pages are taken as they are written."""
        file = os.memfd_create("tritium-kv", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(file, size_bytes)
        # A peer that reads a file cut short dies of SIGBUS.
        fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
        self._region = np.frombuffer(mmap.mmap(file, size_bytes), np.uint8)
        readable = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(file)
        self._listener = _Listener(self.address, readable, self._notes)
        return self._region

    def read(self, address: str, pieces: Pieces, note: str) -> Read:
        """Begin a read; the first one from a peer asks for its memory file."""
        return _ShmRead(self._peer(address), self._region, pieces, note)

    def tell(self, address: str, note: str) -> None:
        """Send a note on the peer's connection."""
        self._peer(address).tell(note)

    def take_notes(self) -> list[str]:
        """Return what peers have said."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def close(self) -> None:
        """End the listener and leave every peer."""
        if self._listener is not None:
            self._listener.close()
        for peer in self._peers.values():
            peer.close()

    def _peer(self, address: str) -> "_Peer":
        peer = self._peers.get(address)
        if peer is None or peer.lost:
            # The memory of workers that are gone is kept by this mapping alone.
            for gone in [known for known, each in self._peers.items() if each.gone]:
                self._peers.pop(gone).close()
            peer = self._peers[address] = _Peer(address)
        return peer


class _ShmRead:
    """A read that waits for the peer's memory file the first time, and is a copy from then on."""

    def __init__(self, peer: "_Peer", region: npt.NDArray[np.uint8], pieces: Pieces, note: str) -> None:
        self.reason = ""
        self._peer = peer
        self._region = region
        self._pieces = pieces
        self._note = note

    def poll(self) -> ReadState:
        try:
            source = self._peer.region()
            if source is None:
                return ReadState.PENDING
            self._copy(source)
            self._peer.tell(self._note)
        except (OSError, ValueError) as reason:
            self.reason = str(reason)
            return ReadState.FAILED
        return ReadState.DONE

    def _copy(self, source: npt.NDArray[np.uint8]) -> None:
        size = self._pieces.piece_bytes
        remote, local = self._pieces.remote, self._pieces.local
        if len(remote) and (int(remote.min()) < 0 or int(remote.max()) + size > len(source)):
            raise ValueError(f"the peer's region of {len(source)} bytes does not hold the blocks described")
        for there, here in zip(remote.tolist(), local.tolist(), strict=True):
            self._region[here : here + size] = source[there : there + size]


class _Peer:
    """The connection to one peer and its region, once it has come."""

    def __init__(self, address: str) -> None:
        self.lost = False
        self._region: npt.NDArray[np.uint8] | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._address = "\0" + address.removeprefix(_SCHEME)
        self._connected = False

    @property
    def gone(self) -> bool:
        """Tell whether the peer has ended or cannot be reached."""
        if not self._connected or self.lost:
            return self.lost
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def region(self) -> npt.NDArray[np.uint8] | None:
        """Return the peer's memory, or None while it has not come.

        Raises:
            OSError: the peer is gone, or of another user.
        """
        if self._region is not None:
            return self._region
        try:
            self._connect()
            _, files, _, _ = socket.recv_fds(self._socket, 1, 1)
        except BlockingIOError:
            return None
        except OSError as reason:
            self.lost = True
            raise OSError(f"worker at {self._address[1:]} cannot be reached: {reason.strerror}") from None
        if not files:
            self.lost = True
            raise OSError(f"worker at {self._address[1:]} refused to share its memory")
        size = os.fstat(files[0]).st_size
        self._region = np.frombuffer(mmap.mmap(files[0], size, prot=mmap.PROT_READ), np.uint8)
        os.close(files[0])
        return self._region

    def tell(self, note: str) -> None:
        """Send a note; a peer that is gone needs none."""
        try:
            self._connect()
            self._socket.sendall(note.encode() + b"\n")
        except OSError:
            self.lost = True

    def close(self) -> None:
        self._socket.close()

    def _connect(self) -> None:
        if not self._connected:
            self._socket.connect(self._address)
            self._connected = True


class _Listener:
    """A thread that hands the memory file to peers and gathers their notes."""

    def __init__(self, address: str, file: int, notes: deque[str]) -> None:
        self._file = file
        self._notes = notes
        self._rest: dict[socket.socket, bytes] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind("\0" + address.removeprefix(_SCHEME))
        self._socket.listen(64)
        self._socket.setblocking(False)
        self._end, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="kv-transfer-shm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.close()
        self._thread.join()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._end, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._end in ready:
                    break
                for peer in ready:
                    assert isinstance(peer, socket.socket)
                    if peer is self._socket:
                        self._accept(selector)
                    elif not self._listen_to(peer):
                        selector.unregister(peer)
                        del self._rest[peer]
                        peer.close()
        for peer in [self._socket, self._end, *self._rest]:
            peer.close()
        os.close(self._file)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return  # it left before it was let in
        _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            # Abstract sockets have no permissions; the prompts of others are not for every user of the machine.
            if user not in {os.getuid(), 0}:
                raise PermissionError(user)
            socket.send_fds(peer, [b"1"], [self._file])
        except OSError:
            peer.close()
            return
        peer.setblocking(False)
        self._rest[peer] = b""
        selector.register(peer, selectors.EVENT_READ)

    def _listen_to(self, peer: socket.socket) -> bool:
        try:
            said = peer.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *notes, self._rest[peer] = (self._rest[peer] + said).split(b"\n")
        self._notes.extend(note.decode(errors="replace") for note in notes)
        return bool(said) and len(self._rest[peer]) < 65536
