"""Large JSON bodies, read in a process beside the server.

A parser holds the interpreter's lock from the first byte to the last, so that a thread would not help: nobody else
would be answered meanwhile. The process is started when the first such body comes, reads one body after the other, and
ends with the server, whose end of the socket it waits on.

    LargeBodies --size, pickle of a function and its arguments, JSON--> main()
                <--size, pickle of what it returned or raised----------
"""

import asyncio
import io
import mmap
import pickle
import signal
import socket
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tritium.compat.v2 import generate, infer_request
from tritium.compat.v2.call import InferCall
from tritium.core.errors import Internal
from tritium.core.tensor import Tensor

LARGE_BYTES = 256 << 10
"""Where another process pays. Up to here the server itself takes 5 ms for numbers, 20 for strings and 70 for the worst
there is, millions of brackets; by way of the process it takes 2 ms more, and a hundred to start it once."""

Inputs = dict[str, tuple[str, tuple[int, ...]]]
"""The datatypes and full shapes of a model's inputs by name."""

_SIZE = struct.Struct("<Q")
_COMMAND = "import sys; from tritium.http.aside import main; main(int(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class _Inference:
    """A call, and where in the body the data of its binary tensors stands, by their place among the inputs."""

    call: InferCall[Tensor]
    places: dict[int, slice]


class NamesMemory(Exception):
    """The body names shared memory, which only the server's own process has."""


class LargeBodies:
    """The process, from where the server stands."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._end: Callable[[], object] = bool
        self._turn = asyncio.Lock()

    async def infer(self, body: bytes | memoryview, json_size: int, model: str, most: int) -> InferCall[Tensor]:
        """Do as `infer_request.decode`.

        Raises:
            Refusal: in Triton's words.
            NamesMemory: the body has to be read where the memory is.
        """
        infer_request.check_json_size(json_size, most)
        view = memoryview(body)
        inference: _Inference = await self._read(_infer, view[:json_size], len(view), model, most)
        for index, place in inference.places.items():
            inference.call.inputs[index].data = view[place]
        return inference.call

    async def generate(self, body: bytes | memoryview, inputs: Inputs, most: int) -> InferCall[Tensor]:
        """Do as `generate.decode`.

        Raises:
            Refusal: in Triton's words.
        """
        infer_request.check_json_size(len(body), most)
        call: InferCall[Tensor] = await self._read(_generate, memoryview(body), inputs, most)
        return call

    def close(self) -> None:
        """End the process; the next body starts another."""
        self._end()
        self._connection = self.process = None

    async def _read(self, function: Callable[..., Any], json: memoryview, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                connection = self._connection or self._start()
                task = pickle.dumps((function, len(json), arguments))
                await loop.sock_sendall(connection, _SIZE.pack(len(task)) + task)
                await loop.sock_sendall(connection, json)
                (size,) = _SIZE.unpack(await _receive(connection, _SIZE.size))
                answer = await _receive(connection, size)
            except (OSError, EOFError) as error:
                self.close()
                raise Internal(f"the process that reads large JSON has ended: {error}") from None
            except BaseException:
                self.close()  # cancelled: what is half said cannot be taken up again
                raise
        result = pickle.loads(answer)  # noqa: S301  # from a process of our own
        if isinstance(result, BaseException):
            raise result
        return result

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            command = [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603  # our own
        self._connection = ours
        self._end = weakref.finalize(self, _end, ours, self.process)
        return ours


def _end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.kill()
    process.wait()


async def _receive(connection: socket.socket, size: int) -> bytearray:
    loop = asyncio.get_running_loop()
    buffer = bytearray(size)
    rest = memoryview(buffer)
    while rest:
        taken = await loop.sock_recv_into(connection, rest)
        if not taken:
            raise EOFError("it closed its socket")
        rest = rest[taken:]
    return buffer


def main(descriptor: int) -> None:
    """Read one body after the other, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us when it has finished
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as stream:
        while head := stream.read(_SIZE.size):
            function, json_size, arguments = pickle.loads(stream.read(*_SIZE.unpack(head)))  # noqa: S301  # our own
            try:
                result: object = function(stream, json_size, *arguments)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is for the server
                result = error.with_traceback(None)  # which would hold the body
            answer = pickle.dumps(result)
            connection.sendall(_SIZE.pack(len(answer)))
            connection.sendall(answer)


def _infer(stream: io.BufferedReader, json_size: int, body_bytes: int, model: str, most: int) -> _Inference:
    """Read an inference; what follows the JSON stays with the server, and is memory without pages here."""
    body = memoryview(mmap.mmap(-1, body_bytes))
    stream.readinto(body[:json_size])
    call = infer_request.decode(body, json_size, model, Tensor, _no_memory_here, most)
    places = {}
    at = json_size
    for index, tensor in enumerate(call.inputs):
        if isinstance(tensor.data, memoryview) and tensor.data.obj is body.obj:
            places[index] = slice(at, at + len(tensor.data))
            at += len(tensor.data)
            tensor.data = b""
    return _Inference(call, places)


def _generate(stream: io.BufferedReader, json_size: int, inputs: Inputs, most: int) -> InferCall[Tensor]:
    return generate.decode(stream.read(json_size), inputs, Tensor, most)


def _no_memory_here(_region: str, _offset: int, _size: int) -> memoryview:
    raise NamesMemory
