"""A running Triton as the source of an audit: a small server that answers as Triton does."""

import json
import socket
from http.server import BaseHTTPRequestHandler
from threading import Thread

import pytest
from click.testing import CliRunner
from qa.unit.migration.served import served

from tritium.migration.cli import main
from tritium.migration.finding import Verdict
from tritium.migration.running import ServerError, audit_server

CONFIG = {
    "name": "add",
    "backend": "python",
    "max_batch_size": 4,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3"]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["3"]}],
    "model_transaction_policy": {"decoupled": True},
    "a_field_of_a_later_triton": 1,
}
ANSWERS = {
    "/v2/repository/index": [
        {"name": "add", "version": "2", "state": "READY", "reason": ""},
        {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": "no backend 'nope'"},
    ],
    "/v2/models/add/config": CONFIG,
    "/v2/models/add/stats": {
        "model_stats": [{"name": "add", "inference_count": "8", "inference_stats": {"success": {"count": "5"}}}]
    },
}


class Triton(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = ANSWERS.get(self.path)
        body = json.dumps(answer if answer is not None else {"error": "unknown"}).encode()
        self.send_response(200 if answer is not None else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_running_server_is_audited() -> None:
    """Models come from the index and their configurations, with how much they are used and why one did not load."""
    with served(Triton) as url:
        report = audit_server(url)
    add, bad = report.models
    assert (add.name, add.kind, add.verdict, add.versions) == ("add", "python", Verdict.SERVES, ("2",))
    assert add.evidence == "5 requests, 8 inferences since it was loaded"
    assert "M28" in {finding.rule for finding in add.findings}
    assert bad.verdict is Verdict.BROKEN
    assert [f.message for f in bad.findings] == ["Triton could not load it: no backend 'nope'"]


def test_what_is_no_triton_is_told() -> None:
    """A URL without a scheme, a closed port, a server that answers otherwise, and one that speaks no HTTP (gRPC)."""

    class Other(Triton):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"hi")

    with served(Other) as url, pytest.raises(ServerError, match="is this the HTTP port of Triton"):
        audit_server(url)
    with pytest.raises(ServerError, match="write http://host:8000"):
        audit_server("localhost:8000")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            with listening.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"\x00\x00\x12\x04\x00\r\n")

        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(ServerError, match="BadStatusLine; is this the HTTP port"):
            audit_server(f"http://127.0.0.1:{port}")
        thread.join()
    done = CliRunner().invoke(main, ["audit", "--from", url])
    assert (done.exit_code, url in done.output) == (2, True)
