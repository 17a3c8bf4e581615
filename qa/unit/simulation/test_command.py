"""`tritium simulate` and what it writes."""

import csv
import io
import json
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from tritium.cli.main import main

LINE = [
    "simulate",
    "--workload",
    "prefixes",
    "--rate",
    "5",
    "--duration",
    "20",
    "--fleet",
    "workers=2",
    "--blocks",
    "1000",
]


def simulate(*options: str) -> str:
    done = CliRunner().invoke(main, [*LINE, *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_table_for_people():
    """A line a policy, below what was simulated."""
    lines = simulate("--policies", "kv,round-robin,dynamo:2").splitlines()
    assert lines[0].startswith("prefixes, workers=2, 1 h100 8b bf16, best possible hits 0.")
    assert [line.split()[0] for line in lines[2:]] == ["policy", "kv", "round-robin", "dynamo:2"]


def test_tables_for_programs():
    """JSON and CSV have the same figures under the same names."""
    options = ("--policies", "kv", "--format")
    (one,) = json.loads(simulate(*options, "json"))
    (row,) = csv.DictReader(io.StringIO(simulate(*options, "csv")))
    assert set(one) == set(row)
    assert {name: value for name, value in one.items() if name not in ("policy", "took_s")} == {
        name: float(value) for name, value in row.items() if name not in ("policy", "took_s")
    }
    assert simulate(*options, "markdown").splitlines()[4].startswith("| kv | ")


def test_a_picture(tmp_path):
    """An SVG that any reader of XML takes, with a curve a policy in three of its panels."""
    path = tmp_path / "picture.svg"
    simulate("--policies", "kv,random", "--plot", str(path))
    root = ET.parse(path).getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 6


def test_a_picture_that_cannot_be_written(tmp_path):
    """The table is told all the same, and the reason."""
    done = CliRunner().invoke(main, [*LINE, "--policies", "kv", "--plot", str(tmp_path / "no" / "picture.svg")])
    assert done.exit_code == 1
    assert "policy" in done.output
    assert "picture.svg: No such file or directory" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policies", "best"], "there is no policy 'best'"),
        (["--policies", "dynamo:much"], "'much' is no prefill load scale"),
        (["--fleet", "worker=2"], "did you mean workers?"),
        (["--trace", "x.jsonl"], "either --trace FILE or --workload KIND"),
        (["--gpu", "a100", "--precision", "fp8"], "has no fp8"),
    ],
)
def test_what_cannot_be_is_said(options, words):
    """Exit status 2, and what to do."""
    done = CliRunner().invoke(main, [*LINE, *options])
    assert done.exit_code == 2
    assert words in done.output
