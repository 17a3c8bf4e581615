"""The audit's text: short lines, the same thing said once."""

import json
from pathlib import Path

from click.testing import CliRunner

from tritium.migration.audit import audit
from tritium.migration.cli import main
from tritium.migration.reports.json import as_json
from tritium.migration.reports.text import as_text


def deployment(root: Path) -> Path:
    """Write five models of two kinds and two launch files with the same flags."""
    for number in range(4):
        folder = root / f"models/code{number}"
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text('backend: "python"\noptimization { priority: PRIORITY_MAX }\n')
    (root / "models/plan").mkdir()
    (root / "models/plan/config.pbtxt").write_text('platform: "tensorrt_plan"\n')
    for name in ("a.sh", "b.sh"):
        (root / name).write_text("tritonserver --model-repository=s3://bucket/models " + "--load-model=code0 " * 12)
    return root


def test_what_holds_for_several_is_said_once(tmp_path: Path) -> None:
    """Models that fare alike share one line of reasons; findings and advice stand once, with their places."""
    text = as_text([audit(deployment(tmp_path))])
    for said in ("runs in a process of its own", "M22", "optimization.priority changes nothing", "L11", "extra cloud"):
        assert text.count(said) == 1, text
    for place in ("models/code0/config.pbtxt:2:26", "models/code3/config.pbtxt:2:26", "a.sh:1:33", "b.sh:1:33"):
        assert place in text


def test_lines_fit_a_terminal(tmp_path: Path) -> None:
    """No sentence and no command makes a line wider than 110 columns."""
    assert max(map(len, as_text([audit(deployment(tmp_path))]).splitlines())) <= 110


def test_advice_needs_no_package_index(tmp_path: Path) -> None:
    """How to get a backend is said without a command that would fetch a stranger's package."""
    (tmp_path / "net/1").mkdir(parents=True)
    (tmp_path / "net/1/model.onnx").write_text("")
    text = as_text([audit(tmp_path)])
    assert "pip install" not in text
    assert "extra onnx" in text


def test_json_has_the_documented_fields(tmp_path: Path) -> None:
    """The fields of the object, and of each list in it, are those of the table in docs/migration/README.md."""
    document = json.loads(as_json([audit(deployment(tmp_path))]))
    table = (Path(__file__).parents[3] / "docs/migration/README.md").read_text().partition("## JSON")[2]
    for field, value in document.items():
        assert f"| `{field}` |" in table
        for key in value[0] if isinstance(value, list) and value else ():
            assert f"`{key}`" in next(line for line in table.splitlines() if line.startswith(f"| `{field}` |"))
    for key in document["launches"][0]["findings"][0]:
        assert f"`{key}`" in table.partition("A finding has")[2]


def test_exit_statuses(tmp_path: Path) -> None:
    """0 where all serves as it is, 1 where something needs work, 2 where nothing can be audited."""
    (tmp_path / "good/m").mkdir(parents=True)
    (tmp_path / "good/m/config.pbtxt").write_text('backend: "python"\n')
    (tmp_path / "bad").mkdir()
    deployment(tmp_path / "bad")
    statuses = [CliRunner().invoke(main, ["audit", str(tmp_path / n)]).exit_code for n in ("good", "bad", "none")]
    assert statuses == [0, 1, 2]
