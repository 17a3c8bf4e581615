"""Fetches a file over HTTP from a host that is listed: bounded in size, time and redirects.

url -> host listed? -> addresses -> each allowed? -> connect to that very address -> headers -> body
 ^                                                                                     |
 +----------------------------------------- redirect ----------------------------------+
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import SplitResult, urljoin, urlsplit

import httptools

from tritium.core.errors import InferenceError
from tritium.openai.media.policy import Address, MediaPolicy, as_address

_CHUNK = 64 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class FetchRefused(InferenceError):
    """A file could not be fetched, or must not be; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file, and what its server says it is."""

    mime: str
    data: bytes


async def fetch(url: str, policy: MediaPolicy) -> Fetched:
    """Fetch a file.

    Raises:
        FetchRefused: its host is not listed, or it did not come within the bounds.
    """
    try:
        async with asyncio.timeout(policy.timeout_s):
            for _ in range(policy.most_redirects + 1):
                answer = await _get(_checked(url, policy), policy)
                if not answer.location:
                    return Fetched(answer.mime, b"".join(answer.body))
                url = _joined(url, answer.location)
    except TimeoutError:
        raise FetchRefused(f"it did not come within {policy.timeout_s:g} s") from None
    except (OSError, UnicodeError) as error:
        raise FetchRefused(f"it could not be fetched: {error}") from None
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise FetchRefused(f"its server does not answer in HTTP: {error}") from None
    raise FetchRefused(f"it redirects more than {policy.most_redirects} times")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise FetchRefused(f"it redirects to what is no URL: {error}") from None


def _checked(url: str, policy: MediaPolicy) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchRefused(f"it is no URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        raise FetchRefused("it is neither an http nor an https URL with a host")
    if not policy.takes_host(parts.hostname):
        raise FetchRefused(
            f"nothing is fetched from {parts.hostname}",
            hint="send it as a data: URL, or let the operator list the host (allowed_media_host)",
        )
    return parts


async def _get(url: SplitResult, policy: MediaPolicy) -> "_Answer":
    """Send one GET and take its answer."""
    host = url.hostname or ""
    port = url.port or _DEFAULT_PORTS[url.scheme]
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    # The client's own bytes must not become headers of ours.
    if not (path.isascii() and path.isprintable()) or " " in path:
        raise FetchRefused("its path has characters that a URL writes with %")
    reader, writer = await _connect(await _addresses(host, port, policy), port, host if url.scheme == "https" else "")
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\nAccept: */*\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: tritium\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        answer.parser = parser
        while not answer.complete and (chunk := await reader.read(_CHUNK)):
            parser.feed_data(chunk)
            if max(answer.size, answer.announced) > policy.most_bytes:
                raise FetchRefused(f"it is larger than {policy.most_bytes} bytes")
    finally:
        writer.close()
    answer.check()
    return answer


async def _connect(
    addresses: Sequence[Address], port: int, secure_host: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that answers; `secure_host` is whose certificate is wanted, "" for none."""
    tls = _tls() if secure_host else None
    failure = OSError("it has no address")
    for address in addresses:
        try:
            return await asyncio.open_connection(str(address), port, ssl=tls, server_hostname=secure_host or None)
        except OSError as error:
            failure = error
    raise failure


async def _addresses(host: str, port: int, policy: MediaPolicy) -> Sequence[Address]:
    """Return the addresses of the host that may be connected to; what is checked here is what is connected to."""
    literal = as_address(host)
    if literal is not None:
        return [literal]  # takes_host has looked at it
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [address for entry in found if (address := as_address(str(entry[4][0]).partition("%")[0])) is not None]
    if allowed := [address for address in addresses if policy.takes_address(address)]:
        return allowed
    raise FetchRefused(
        f"{host} is at an address of a private network",
        hint="the operator can list the address itself (allowed_media_host 10.0.0.0/8)",
    )


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(slots=True)
class _Answer:
    """What httptools tells of an answer."""

    parser: httptools.HttpResponseParser | None = None
    status: int = 0
    mime: str = ""
    location: str = ""
    size: int = 0
    announced: int = 0
    complete: bool = False
    body: list[bytes] = field(default_factory=list)

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self.mime = value.partition(b";")[0].strip().lower().decode("latin-1")
            case b"location":
                self.location = value.decode("latin-1")
            case b"content-length" if value.isdigit():
                self.announced = int(value)

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        self.status = self.parser.get_status_code()
        if self.status not in _REDIRECTS:
            self.location = ""
        self.complete = bool(self.location)

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def check(self) -> None:
        """Refuse an answer that is no whole file.

        Raises:
            FetchRefused: it was cut short, or it is an error.
        """
        if self.location:
            return
        if self.status != 200:
            raise FetchRefused(f"its server answers {self.status or 'nothing'}")
        if not self.complete:
            raise FetchRefused("it was cut short")
