"""One run of `record`: proxies in front of servers, all writing into one file until they are stopped."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from tritium.migration.recording.file import Recorded, RecordingFile
from tritium.migration.recording.grpc_proxy import GrpcProxy
from tritium.migration.recording.http_proxy import HttpProxy
from tritium.migration.recording.redaction import Redaction


class BadAddress(Exception):
    """A URL or an address that a proxy cannot use."""


@dataclass(frozen=True, slots=True)
class Way:
    """One server and where its proxy listens; port 0 takes a free one."""

    scheme: str
    host: str
    port: int
    listen_host: str
    listen_port: int


def way(url: str, listen: str) -> Way:
    """Read a server's URL and the address to listen on.

    Raises:
        BadAddress: one of them is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        listen_host, _, listen_port = listen.rpartition(":")
        number = int(listen_port)
    except ValueError as error:
        raise BadAddress(f"{url} on {listen}: {error}") from None
    if parts.scheme not in {"http", "https", "grpc", "grpcs"} or not host:
        raise BadAddress(f"{url} is no URL of a server: write http://host:8000 or grpc://host:8001")
    if parts.path.strip("/"):
        raise BadAddress(f"{url}: requests go to the paths they name; leave {parts.path} out")
    usual = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 443}[parts.scheme]
    return Way(parts.scheme, host, port or usual, listen_host or "127.0.0.1", number)


class Recorder:
    """Proxies and the file they write."""

    def __init__(
        self,
        ways: Sequence[Way],
        path: Path,
        *,
        most_bytes: int,
        most_body: int,
        redact_text: bool,
        cafile: Path | None = None,
    ) -> None:
        self._ways, self._most_body, self._cafile = ways, most_body, cafile
        self._redaction = Redaction(without_text=redact_text)
        self.file = RecordingFile(path, most_bytes)
        self.unusable = 0
        self._proxies: list[HttpProxy | GrpcProxy] = []

    async def start(self) -> list[str]:
        """Listen everywhere; return the URLs that clients are given instead.

        Raises:
            OSError: an address is taken.
        """
        urls = []
        for one in self._ways:
            proxy: HttpProxy | GrpcProxy
            if one.scheme.startswith("grpc"):
                proxy = GrpcProxy(one.scheme, f"{one.host}:{one.port}", self._most_body, self._keep, self._cafile)
            else:
                proxy = HttpProxy(one.scheme, one.host, one.port, self._most_body, self._keep, self._cafile)
            try:
                port = await proxy.start(one.listen_host, one.listen_port)
            except RuntimeError as error:
                # What grpcio says of a port that is taken.
                raise OSError(str(error)) from None
            self._proxies.append(proxy)
            urls.append(f"{one.scheme.rstrip('s')}://{one.listen_host}:{port}")
        return urls

    async def stop(self) -> None:
        """End the proxies and finish the file."""
        for proxy in self._proxies:
            await proxy.stop()
        self.file.close()

    def _keep(self, recorded: Recorded) -> None:
        call = recorded.call
        if call.refused:
            self.unusable += 1
            recorded = replace(recorded, call=replace(call, messages=(b"",)), responses=())
        self.file.append(self._redaction.applied(recorded))


async def record(recorder: Recorder, ready: Callable[[list[str]], None], stopped: asyncio.Event) -> None:
    """Record until `stopped` is set."""
    try:
        ready(await recorder.start())
        await stopped.wait()
    finally:
        await recorder.stop()
