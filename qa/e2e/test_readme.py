"""README.md does what it says: its commands and programs are run as they are written, against the sample repository."""

import re
import subprocess
import sys

import pytest
from qa.e2e.product import ROOT, Product

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (curl -s (?:.|\n)*?)(?=\n\n|\n    curl)", README, re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def on(product: Product, text: str) -> str:
    """Put the product's ports in the place of the ones in the README."""
    for port, protocol in (("8000", "HTTP"), ("8001", "gRPC"), ("8002", "metrics"), ("9000", "OpenAI")):
        text = text.replace(f"localhost:{port}", product.url(protocol))
    return text


def test_there_is_something_to_run() -> None:
    """The README shows curl and both clients."""
    assert len(COMMANDS) == 2
    assert len(PROGRAMS) == 2


@pytest.mark.parametrize("command", COMMANDS, ids=["infer", "chat"])
def test_curl(sample: Product, command: str) -> None:
    """Each curl command gets an answer that is no error."""
    done = subprocess.run(["bash", "-c", on(sample, command)], capture_output=True, text=True, check=True, timeout=120)
    assert '"error"' not in done.stdout, done.stdout
    assert '"outputs"' in done.stdout or "model" in done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=["tritonclient", "openai"])
def test_programs(sample: Product, program: str) -> None:
    """Each program runs and prints."""
    line = [sys.executable, "-c", on(sample, program)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "command", re.findall(r"^    (tritium check \S+|dynamo-migrate audit \S+)", README, re.MULTILINE)
)
def test_tools(command: str) -> None:
    """The tools that need no server run too."""
    words = command.replace("/path/to/deployment", "model_repository").split()
    program = str((ROOT / sys.executable).with_name(words[0]))
    done = subprocess.run([program, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
