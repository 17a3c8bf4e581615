"""The product with its hot path compiled answers as the sources do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from qa.e2e.product import ROOT, Product

ALIKE = ["qa/golden/test_http.py", "qa/golden/test_grpc.py", "qa/unit/wire", "qa/wire/transport"]
LEFT_OUT = "--ignore=qa/unit/wire/test_h2_flow.py"  # its fakes are subclasses, which compiled classes do not take


@pytest.fixture(scope="module")
def compiled() -> str:
    """Build it, or find it built; the folder that goes first on PYTHONPATH."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (apt-get install gcc): the compiled product is not tested")
    line = [str(ROOT / "qa" / "compiled.sh")]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=900).stdout.strip()


@pytest.mark.timeout(900)
def test_the_compiled_modules_are_what_runs(compiled: str) -> None:
    """Every module on the list is there as an extension, and a server loads them."""
    extensions = {path.name.split(".")[0] for path in Path(compiled).rglob("*.so")}
    assert {"connection", "tensor_model", "grpc_request", "instance"} <= extensions
    product = Product([str(ROOT / "model_repository"), "--engine=embedded"], {"PYTHONPATH": compiled})
    try:
        maps = Path(f"/proc/{product.process.pid}/maps").read_text()
        assert f"{compiled}/tritium__mypyc" in maps, product.output
        assert product.stop() == 0, product.output
    finally:
        product.kill()


@pytest.mark.timeout(900)
def test_recorded_cases_are_answered_alike(compiled: str) -> None:
    """The golden cases of both protocols, and the tests of the transports, pass on the compiled modules."""
    line = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", LEFT_OUT, *ALIKE]
    done = subprocess.run(
        line, cwd=ROOT, env={**os.environ, "PYTHONPATH": compiled}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
