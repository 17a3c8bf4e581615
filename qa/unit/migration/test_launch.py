"""Command lines in launch files: how they are split, and what each flag becomes."""

from pathlib import Path

import pytest

from tritium.compat.flags import FlagError, parse
from tritium.migration.audit import audit
from tritium.migration.finding import Finding, LaunchReport, Severity


def launch(folder: Path, name: str, text: str) -> LaunchReport:
    """Write one launch file and read it."""
    (folder / name).write_text(text)
    (found,) = audit(folder).launches
    return found


def of(found: LaunchReport, rule: str) -> list[Finding]:
    """Return the findings of one rule."""
    return [finding for finding in found.findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        (
            "Dockerfile",
            'CMD ["tritonserver","--model-repository=/m","--cache-config=local,size=1048576"]\n',
            "tritonserver --model-repository=/m --cache-config=local,size=1048576",
        ),
        (
            "a.yaml",
            'args: ["-c", "tritonserver --model-repository={{ .Values.path }} --log-verbose=1"]\n',
            "tritonserver --model-repository={{ .Values.path }} --log-verbose=1",
        ),
        (
            "b.yaml",
            'command:\n  [\n    "tritonserver",\n    "--model-repository",\n    "/m",\n    "--log-verbose=1",\n  ]\n',
            "tritonserver --model-repository /m --log-verbose=1",
        ),
        (
            "c.yaml",
            "command:\n- tritonserver\nargs:\n- --model-repository\n- /m\n# - --old\n- --http-port=1\nports: []\n",
            "tritonserver --model-repository /m --http-port=1",
        ),
        (
            "docker-compose.yml",
            "command: >\n  tritonserver\n  --model-repository=/m\n  --http-port 1\nports:\n  - 8000\n",
            "tritonserver --model-repository=/m --http-port 1",
        ),
        (
            "d.sh",
            "exec tritonserver --model-repository='/my models' \\\n  --log-verbose 1 2>&1 | tee --append log\n",
            "tritonserver --model-repository=/my models --log-verbose 1",
        ),
        ("e.sh", "mpirun -n 1 tritonserver --id=a : -n 1 true --id=b\n", "tritonserver --id=a"),
    ],
)
def test_commands_are_split_as_they_would_run(tmp_path: Path, name: str, text: str, command: str) -> None:
    """Lists, strings, blocks and continuations give the command's own words, commas within a word included."""
    assert launch(tmp_path, name, text).commands == (command,)


def test_what_the_server_does_not_start_with_is_a_blocker(tmp_path: Path) -> None:
    """An unknown flag and a bad value stop the start, here as on Triton, and the right spelling is offered."""
    found = launch(tmp_path, "run.sh", "tritonserver --model-repositry=/m --http-port=eight\n")
    unknown, bad = of(found, "L02")
    assert unknown.severity is bad.severity is Severity.BLOCKER
    assert (unknown.line, unknown.column) == (1, 14)
    assert "did you mean --model-repository?" in unknown.advice
    assert bad.message == "Invalid option value. Got eight: tritonserver does not start with it"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cache-config=local,size=1"],
        ["--cache-config", "local,size=1"],
        ["--response-cache-byte-size=0"],
        ["--allow-sagemaker=false"],
        ["--allow-sagemaker", "false"],
        ["--allow-sagemaker"],
        ["--no-such-flag"],
        ["--log-verbose=0"],
    ],
)
def test_blockers_are_what_the_server_refuses(tmp_path: Path, arguments: list[str]) -> None:
    """A flag is a blocker exactly where the server's own reading refuses it: not where its value says off."""
    found = launch(tmp_path, "run.sh", f"tritonserver --model-repository=/m {' '.join(arguments)}\n")
    blocked = any(f.severity is Severity.BLOCKER for f in found.findings)
    try:
        parse(arguments)
    except FlagError:
        assert blocked
    else:
        assert not blocked


@pytest.mark.parametrize(
    "words", ["--model-repository=s3://b/m", "--model-store gs://b/m", "--model-repository as://b"]
)
def test_cloud_repositories_are_told(tmp_path: Path, words: str) -> None:
    """A repository in an object store is served; what it takes is said."""
    (finding,) = of(launch(tmp_path, "run.sh", f"tritonserver {words}\n"), "L11")
    assert finding.severity is Severity.INFO
    assert "extra cloud" in finding.advice


def test_values_filled_in_later_are_not_judged(tmp_path: Path) -> None:
    """A placeholder is no bad value; only what a flag means here, whatever its value, is said."""
    text = "tritonserver --http-port={{ .Values.port }} --grpc-port=$(PORT) --host-policy=${POLICY}\n"
    (finding,) = launch(tmp_path, "run.sh", text).findings
    assert (finding.rule, finding.severity) == ("L03", Severity.INFO)
    assert "--host-policy" in finding.message
