"""The document at /openapi.json holds: schemathesis asks every route as it says, and reads the answers by it."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from qa.e2e.product import ROOT, Product

SCHEMATHESIS = ROOT / ".clients" / "bin" / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)

pytestmark = [
    pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed: make test does"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the sample chat model by an engine that computes nothing."""
    repository = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_repository" / "tiny_chat", repository / "tiny_chat")
    product = Product([str(repository), "--engine=mocker"])
    assert "OpenAI" in product.ports, product.output
    yield f"http://{product.url('OpenAI')}"
    assert product.stop() == 0, product.output


def test_every_route_keeps_to_its_document(url: str, tmp_path: Path) -> None:
    """Some thousands of requests, right and wrong: no 5xx, and every status, type and body is a documented one."""
    done = subprocess.run(
        [
            SCHEMATHESIS,
            "run",
            f"{url}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            "--phases=coverage,fuzzing",
            "--max-examples=20",
            "--seed=1",
            "--exclude-path-regex=/(un)?load$",
            "--suppress-health-check=all",
            "--warnings=off",
            "--no-color",
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(Path(__file__).parent / "clients")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    routes = sum(len(methods) for path, methods in paths.items() if not path.endswith(("/load", "/unload")))
    assert f"Tested: {routes}" in done.stdout
