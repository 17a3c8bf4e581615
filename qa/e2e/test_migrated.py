"""The sample deployment of docs/migration/walk.md, migrated and served: python models and the ensemble of them."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from qa.e2e.product import ROOT, Product

MIGRATE = str(Path(sys.executable).with_name("dynamo-migrate"))


def run(*words: str, folder: Path) -> None:
    """Run dynamo-migrate, which has to end well."""
    done = subprocess.run([MIGRATE, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_migrated_deployment_answers(start: Callable[..., Product], tmp_path: Path) -> None:
    """What apply wrote is served: two python models, and the ensemble that hands one's output to the other."""
    run("plan", str(ROOT / "qa/migration/sample"), folder=tmp_path)
    run("apply", "-o", "migrated", folder=tmp_path)
    product = start(str(tmp_path / "migrated/models"))
    prices = {"name": "PRICES", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}
    request = urllib.request.Request(
        f"http://{product.url('HTTP')}/v2/models/pipeline/infer", json.dumps({"inputs": [prices]}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        (output,) = json.load(response)["outputs"]
    assert (output["name"], output["shape"], output["data"]) == ("CENTRED", [1, 3], [-100.0, 0.0, 100.0])
