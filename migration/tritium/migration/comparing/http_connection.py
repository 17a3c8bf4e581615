"""One HTTP/1.1 connection to a server that is compared: kept, opened anew where the server closed it."""

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tritium.migration.comparing.call import Unreachable

_END_OF_STREAM = b"[DONE]"


class HttpConnection:
    """A connection to one server, below the path of its URL where it has one."""

    def __init__(
        self,
        scheme: str,
        place: str,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        cafile: Path | None = None,
    ) -> None:
        self.url = f"{scheme}://{place}"
        host, _, self._below = place.partition("/")
        self._headers = headers or {}
        self._connection: http.client.HTTPConnection
        try:
            if scheme == "https":
                tls = ssl.create_default_context(cafile=cafile)
                self._connection = http.client.HTTPSConnection(host, timeout=timeout_s, context=tls)
            else:
                self._connection = http.client.HTTPConnection(host, timeout=timeout_s)
        except http.client.InvalidURL as error:
            raise Unreachable(f"{self.url}: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send one request; the answer has to be read before the next.

        Raises:
            Unreachable: there is no answer.
        """
        path = f"/{self._below}{path}" if self._below else path
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body, {**self._headers, **(headers or {})})
                return self._connection.getresponse()
            except TimeoutError:
                self._connection.close()
                raise Unreachable(f"{self.url}{path} did not answer in {self._connection.timeout} s") from None
            except (OSError, http.client.HTTPException) as error:
                # A server may close a connection that is kept; a second failure is the server's.
                self._connection.close()
                if attempt == 2:
                    raise Unreachable(f"{self.url}: {error or type(error).__name__}; is it running?") from error
        raise AssertionError("unreachable")

    def read(self, response: http.client.HTTPResponse) -> tuple[bytes, str]:
        """Return the body of an answer; the second is why it ended early, empty where it is whole."""
        try:
            return response.read(), ""
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return b"", str(error) or type(error).__name__

    def document(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Send a request and return the JSON that answers it.

        Raises:
            Unreachable: it is refused, or is answered otherwise.
        """
        response = self.ask(method, path, body)
        raw = response.read()
        if response.status >= 400:
            raise Unreachable(f"{self.url}{path}: {response.status} {error_of(raw)}".rstrip())
        try:
            return json.loads(raw)
        except ValueError:
            raise Unreachable(f"{self.url}{path} is not answered in JSON; is this the HTTP port?") from None


def events(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the data of a stream's events as they come, but for the one that ends it."""
    for line in response:
        if line.startswith(b"data:") and (data := line[5:].strip()) != _END_OF_STREAM:
            yield data


def error_of(raw: bytes) -> str:
    """Return what the body of a refusal says."""
    try:
        document = json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")[:500]
    error = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return error if isinstance(error, str) else json.dumps(error)
