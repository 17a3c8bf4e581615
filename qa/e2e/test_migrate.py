"""The sample deployment moved for good: applied in place, its models served and proven the same, and taken back.

`python -m qa.bench.migrate_deployments` does the same with deployments of others, against a real Triton.
"""

import filecmp
import shutil
from pathlib import Path

from click.testing import CliRunner, Result
from qa.e2e.product import ROOT, Product

from tritium.migration.cli import main

SAMPLE = ROOT / "qa/migration/sample"


def migrate(*arguments: str) -> Result:
    """Run dynamo-migrate in this process."""
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done


def test_a_deployment_is_moved_proven_and_moved_back(tmp_path: Path) -> None:
    """What was applied serves, answers as the original over both protocols, and rolls back to the byte."""
    shop, plan = tmp_path / "shop", tmp_path / "plan.json"
    shutil.copytree(SAMPLE, shop)
    migrate("plan", str(shop), "-o", str(plan), "--no-diff")
    migrate("apply", str(plan), "--in-place")
    compose = (shop / "compose.yaml").read_text()
    assert ("--model-repository=/models" in compose, "strict-model-config" in compose) == (True, False)
    old = Product([str(SAMPLE / "models")])
    new = Product([str(shop / "models")])
    for protocol in ("HTTP", "gRPC"):
        urls = [f"{protocol.lower()}://127.0.0.1:{side.ports[protocol]}" for side in (old, new)]
        assert "3 models: 3 same" in migrate("verify", *urls, "--again=0").output
    assert (old.stop(), new.stop()) == (0, 0)
    migrate("rollback", str(shop))
    names = sorted(path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(SAMPLE, shop, names, shallow=False) == (names, [], [])
