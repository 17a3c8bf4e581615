"""Where a worker listens: `unix:/run/tritium/a.sock`, or `HOST:PORT` over TCP.

An address that other machines can reach is taken only with a secret or TLS, unless the operator insists.
"""

import ipaddress
from dataclasses import dataclass, replace

from tritium.core.errors import InvalidArgument

_UNIX = "unix:"
_TCP = "tcp://"
_MOST_PATH_BYTES = 107
"""Of a Unix socket, as Linux has it."""


@dataclass(frozen=True, slots=True)
class PlaneAddress:
    """A Unix socket by its `path`, or a `host` and `port`; port 0 takes a free one."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def private(self) -> bool:
        """Tell whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def everywhere(self) -> bool:
        """Tell whether it stands for all addresses of the machine, so that nobody can be told to go there."""
        return self.host in ("0.0.0.0", "::", "*")  # noqa: S104  it is compared, not bound

    def at(self, *, host: str = "", port: int = 0) -> "PlaneAddress":
        """Return the address with another host or port; what is empty stays."""
        return replace(self, host=host or self.host, port=port or self.port)

    def __str__(self) -> str:
        if self.path:
            return _UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> PlaneAddress:
    """Read an address.

    Raises:
        InvalidArgument: it is none.
    """
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path or len(path.encode()) > _MOST_PATH_BYTES:
            raise InvalidArgument(
                f"'{text}' is no address of a Unix socket", hint=f"unix:/PATH, of at most {_MOST_PATH_BYTES} bytes"
            )
        return PlaneAddress(path=path)
    host, colon, port = text.removeprefix(_TCP).rpartition(":")
    if not colon or not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise InvalidArgument(f"'{text}' is no address", hint="write HOST:PORT, [IPV6]:PORT or unix:/PATH")
    return PlaneAddress(host=host.removeprefix("[").removesuffix("]"), port=int(port))
