"""Recorded cases: the very bytes that were sent to a real Triton 2.51, and what came back.

    # http10-keepalive: what it shows, where the name does not say it
    > GET /v2/health/live HTTP/1.0
    > Connection: keep-alive
    >
    < 200
    < content-type: text/plain
    < content-length: 0
    <
    < open

Lines are sent with CR and LF at their ends, the last one without if it is a body; `hex 00ff` is exactly its bytes and
`{a*70}` seventy times an a. An answer is its status, its headers but for Date (and Content-Length, where there is a
body), and its body; there may be several. The last line says whether the connection then serves another request
(`open`) or ends (`closed`). `~` marks what Triton did where Tritium differs on purpose, as in http_case.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

MANY = re.compile(r"\{(.)\*(\d+)\}")
PROBE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
VERSION = version("tritium")


@dataclass
class Case:
    name: str
    sent: bytes
    expected: list[str]
    differs: bool

    def __str__(self) -> str:
        return self.name

    def ask(self, port: int) -> list[str]:
        """Send the bytes to the port, and return what comes back in lines like those of `expected`."""
        found = []
        with socket.create_connection(("127.0.0.1", port), 30) as connection, connection.makefile("rb") as answer:
            connection.sendall(self.sent)
            for _ in range(sum(line.isdigit() for line in self.expected)):
                found += _response(answer)
            return [*found, _end(connection, answer)]


def read(file: Path) -> Iterator[Case]:
    """Read the cases of a file."""
    for block in re.split(r"(?m)^(?=# )", file.read_text().replace("<version>", VERSION))[1:]:
        lines = [MANY.sub(lambda many: many[1] * int(many[2]), line) for line in block.splitlines()]
        name = lines[0][2:].partition(":")[0]
        sent = b"\r\n".join(map(_bytes, (line[2:] for line in lines if line.startswith(">"))))
        answered = [line[2:] for line in lines if line.startswith("<")]
        yield Case(f"{file.stem}/{name}", sent, answered, any(line.startswith("~") for line in lines))


def _bytes(line: str) -> bytes:
    return bytes.fromhex(line[4:]) if line.startswith("hex ") else line.encode()


def _response(answer) -> list[str]:
    status = answer.readline().split(b" ")[1].decode()
    headers = {}
    while line := answer.readline().strip().decode():
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    headers.pop("date", None)
    body = answer.read(int(headers["content-length"])).decode()
    if body:
        del headers["content-length"]
    return [status, *(f"{name}: {value}" for name, value in headers.items()), "", *filter(None, [body])]


def _end(connection: socket.socket, answer) -> str:
    """Tell whether the connection serves another request."""
    try:
        connection.sendall(PROBE)
        return "open" if answer.readline().startswith(b"HTTP/1.1 200") else "closed"
    except ConnectionError:
        return "closed"
