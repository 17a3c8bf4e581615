"""Objects through NIXL's OBJ plugin: as many of an S3 bucket as there are blocks in a batch, in one transfer.

The plugin neither lists nor deletes, and of a batch of which one object is missing it only says that it failed; obstore
does those, and takes over such a batch.
"""

import itertools
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from tritium.core.errors import InvalidArgument
from tritium.kv.agent import Agent, Kind, Piece, StillMoving, Way, address_of
from tritium.kv.settings import ObjectSettings

# NIXL's names of what obstore calls so.
_OPTIONS = {
    "access_key_id": "access_key",
    "secret_access_key": "secret_key",
    "token": "session_token",
    "region": "region",
}


class NixlObjects:
    """Puts and gets whole objects; safe from many threads."""

    def __init__(self, settings: ObjectSettings) -> None:
        """Raise InvalidArgument for what is no S3 bucket, or where the plugin does not load."""
        self._prefix, parameters = _parameters(settings)
        self._agent = Agent("kv-objects", {"OBJ": parameters})
        self._timeout_s = settings.timeout_s
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stuck: list[tuple[StillMoving, memoryview]] = []

    def put(self, names: Sequence[str], objects: Sequence[bytes]) -> None:
        """Put objects; raises OSError where any failed."""
        self._move(Way.WRITE, names, [len(data) for data in objects], memoryview(bytearray(b"".join(objects))))

    def get(self, names: Sequence[str], sizes: Sequence[int]) -> list[memoryview]:
        """Get objects of these sizes; raises OSError where any failed."""
        memory = memoryview(bytearray(sum(sizes)))
        self._move(Way.READ, names, sizes, memory)
        ends = list(itertools.accumulate(sizes))
        return [memory[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def close(self) -> None:
        """Let go of the plugin."""
        self._agent.close()

    def _move(self, way: Way, names: Sequence[str], sizes: Sequence[int], memory: memoryview) -> None:
        with self._lock:
            self._stuck = [one for one in self._stuck if not one[0].over]
        starts = itertools.accumulate(sizes, initial=address_of(memory))
        here = [Piece(start, size) for start, size in zip(starts, sizes, strict=False)]
        objects = [
            # The number stands for the name among all that are under way.
            Piece(0, size, next(self._numbers), f"{self._prefix}{name}")
            for name, size in zip(names, sizes, strict=True)
        ]
        with (
            self._agent.registered(here, Kind.MEMORY, "OBJ") as pieces,
            self._agent.registered(objects, Kind.OBJECT, "OBJ") as named,
        ):
            try:
                self._agent.move(way, pieces, named, self._agent.name, self._timeout_s)
            except StillMoving as stuck:
                with self._lock:
                    self._stuck.append((stuck, memory))
                raise


def _parameters(settings: ObjectSettings) -> tuple[str, dict[str, str]]:
    """Return what stands before names in the bucket, and what the plugin is opened with."""
    place = urlsplit(settings.url)
    if place.scheme != "s3" or not place.netloc:
        raise InvalidArgument(f"NIXL moves no objects of {settings.url}", "write s3://bucket/prefix, or mover obstore")
    parameters = {"bucket": place.netloc, "use_virtual_addressing": "false"}
    parameters |= {_OPTIONS[name]: value for name, value in settings.options.items() if name in _OPTIONS}
    if settings.endpoint:
        endpoint = urlsplit(settings.endpoint)
        parameters |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    prefix = place.path.strip("/")
    return f"{prefix}/" if prefix else "", parameters
