"""Where changes of caches go: `local`, by each worker's own connections, or a NATS server by its address.

    local                                  every worker tells every front
    nats://HOST:4222, tls://HOST:4222      a worker tells once, to a stream of JetStream; fronts read that
    nats://USER:PASSWORD@HOST:4222         several servers of one cluster are separated by commas

Requests, and what workers say of their load, go by the connections in any case.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from tritium.core.errors import InvalidArgument

LOCAL = "local"

MAX_AGE_S = 600.0
MAX_BYTES = 256 << 20
"""How long, and how much of, a namespace's changes the stream keeps: what a front that was away can be told again."""

_SAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """Where a NATS server is."""

    servers: tuple[str, ...]

    def __str__(self) -> str:
        """Return the addresses without what only their owner should read."""
        return ",".join(f"{part.scheme}://{part.hostname}:{part.port or 4222}" for part in map(urlsplit, self.servers))


def parse_events(text: str) -> NatsPlace | None:
    """Read the setting; None is `local`.

    Raises:
        InvalidArgument: it is neither, or the package that speaks with NATS is not installed.
    """
    if text in ("", LOCAL):
        return None
    servers = tuple(part.strip() for part in text.split(","))
    for server in servers:
        try:
            split = urlsplit(server)
            good = split.scheme in ("nats", "tls") and bool(split.hostname) and split.port != 0
        except ValueError:
            good = False
        if not good:
            told = server.rpartition("@")[2]  # without a password
            raise InvalidArgument(f"'{told}' is no way for events", hint="write local, or nats://HOST:4222")
    try:
        import nats  # noqa: F401, PLC0415  only whoever asks for it has it
    except ImportError:
        raise InvalidArgument(
            "events by NATS need the package nats-py", hint="pip install 'tritium[cluster]'"
        ) from None
    return NatsPlace(servers)


def stream_of(namespace: str) -> str:
    """Return the name of a namespace's stream."""
    return f"tritium_kv_{_SAFE.sub('_', namespace)}"


def subject_of(namespace: str, run: str) -> str:
    """Return the subject of one run of a worker; `*` stands for all."""
    return f"tritium.kv.{_SAFE.sub('_', namespace)}.{run}"
