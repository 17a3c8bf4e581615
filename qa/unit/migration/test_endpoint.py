"""What answers at a URL: Triton's HTTP, OpenAI's API, neither; behind TLS with a certificate of one's own."""

import json
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from qa.own_certificate import own_certificate
from qa.unit.migration.served import served

from tritium.migration.comparing.call import Captured, Unreachable
from tritium.migration.comparing.endpoint import connect
from tritium.migration.comparing.openai_endpoint import make_openai

BOUND_S = 60
TRITON = {"/v2/repository/index": [{"name": "add", "version": "1", "state": "READY"}]}
CHAT = {"choices": [{"message": {"content": "hi", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}
OPENAI = {
    "/v1/models": {"object": "list", "data": [{"id": "chat"}]},
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": {"data": [{"embedding": [0.5, 1.0]}], "model": "chat"},
}


@contextmanager
def serving(answers: dict[str, object], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve these documents, and 404 for the rest, on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps(answers.get(self.path, {"error": "no such path"})).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with served(Handler, tls) as url:
        yield url


def test_a_port_is_known_by_what_it_answers() -> None:
    """An index of models is Triton's, a list of models OpenAI's; with /v1 at the URL's end too."""
    with serving(TRITON) as url, closing(connect(url, BOUND_S)) as found:
        assert (found.protocol, found.models()) == ("http", {"add": "READY"})
    with serving(OPENAI) as url:
        for named in (url, f"{url}/v1", f"{url}/"):
            with closing(connect(named, BOUND_S)) as found:
                assert (found.protocol, found.models()) == ("openai", {"chat": "READY"})


def test_a_port_that_is_neither_is_told_what_is_wanted() -> None:
    """With both paths that were asked for, and the three kinds of port."""
    with serving({}) as url, pytest.raises(Unreachable) as told:
        connect(url, BOUND_S)
    for part in ("/v2/repository/index (404)", "/v1/models (404", "http://host:8000", "grpc://host:8001", ":9000"):
        assert part in str(told.value)


def test_answers_of_openais_api_are_read() -> None:
    """Text with the calls of tools behind it; embeddings as numbers; a refusal by its status."""
    with serving(OPENAI) as url, closing(connect(url, BOUND_S)) as found:
        chat, vector, gone = (
            found.send(Captured("openai", "chat", "", path, messages=(b"{}",)))
            for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/completions")
        )
    assert chat.answers[0].document == {"text_output": "hif{}"}
    [tensor] = vector.answers[0].tensors
    assert (tensor.shape, tensor.numbers().tolist()) == ((2,), [0.5, 1.0])
    assert (gone.status, gone.message) == ("404", "no such path")


def test_made_calls_are_greedy_whole_and_streamed_and_refused() -> None:
    """Each prompt by chat and by completions, in both ways; and two that no server may answer."""
    bodies = [(call.path, json.loads(call.messages[0])) for call in make_openai("chat")]
    assert {body["temperature"] for _, body in bodies} == {0}
    assert {(path, body["stream"]) for path, body in bodies[:-2]} == {
        (path, stream) for path in ("/v1/chat/completions", "/v1/completions") for stream in (False, True)
    }
    assert (bodies[-2][1]["model"], bodies[-1][1]["max_tokens"]) == ("no-such-model", -1)


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    """Known by --cafile it is taken, else the server cannot be asked."""
    certificate, key = own_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(TRITON, tls) as url:
        with closing(connect(url, BOUND_S, certificate)) as found:
            assert found.models() == {"add": "READY"}
        with pytest.raises(Unreachable, match="certificate"):
            connect(url, BOUND_S)
