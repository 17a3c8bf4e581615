"""What NVIDIA's aiconfigurator answers where it is installed: aggregated, or prefill and decode apart, and how fast.

    question -> `aiconfigurator cli default`, in a process of its own, bounded -> a table for each way -> answer

It brings measured times of GPU kernels with it, so that nothing is fetched for a checkpoint that is here.
Made for version 0.12, whose command AISimulate, its successor, keeps by its own notice.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tritium.migration.forecasting.forecast import Load
from tritium.migration.forecasting.layout_table import TABLE, Candidate, best

COMMAND = "aiconfigurator"
LIMIT_S = 60.0
SYSTEMS = {
    "l4": "l4",
    "l40s": "l40s",
    "a100-80": "a100_sxm",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
}
"""Its names of the GPUs that forecasts are made for; it has no others of them."""
_ROWS = "20"
"""How many layouts it is to tell, of the best: enough for one of each size of worker."""
_VERSION = re.compile(r"Loading AIConfigurator version: (\S+)")
_LONGEST_REASON = 240


class NoAnswer(Exception):
    """It was asked and did not answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """What it is asked: a checkpoint's folder, a GPU by the forecasts' name, and the load with the times to keep."""

    checkpoint: Path
    gpu: str
    load: Load
    gpus: int | None = None
    """All of them; None: as many as the load's rate takes."""
    gpus_each: int | None = None
    """Of one worker; None: whatever is best."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The best of both ways, of which one may be missing: it does not keep the times."""

    version: str
    aggregated: Candidate | None
    apart: Candidate | None

    @property
    def is_apart(self) -> bool:
        """Tell whether prefill and decode apart take fewer GPUs, or give more tokens with as many."""
        if self.aggregated is None or self.apart is None:
            return self.aggregated is None
        return self.apart.cost < self.aggregated.cost

    @property
    def said(self) -> str:
        """Say what is better, than what, and who says so."""
        better, other = (self.apart, self.aggregated) if self.is_apart else (self.aggregated, self.apart)
        told = f"{COMMAND} {self.version}: {better.said if better else 'nothing'}"
        return f"{told}; against {other.said}" if other else f"{told}; no layout of the other way keeps the times"


@dataclass(frozen=True, slots=True)
class Opinion:
    """Its answer, or why there is none."""

    answer: Answer | None
    missing: str = ""

    @property
    def said(self) -> str:
        """Say either."""
        return self.answer.said if self.answer else f"{COMMAND} gave no answer, so the forecast stands: {self.missing}"


def installed() -> Path | None:
    """Return the command on PATH, or the one beside the running Python; None where there is neither."""
    found = shutil.which(COMMAND) or shutil.which(str(Path(sys.executable).with_name(COMMAND)))
    return Path(found).absolute() if found else None


def opinion(question: Question) -> Opinion | None:
    """Ask it where it is installed; None where it is not."""
    command = installed()
    if command is None:
        return None
    try:
        return Opinion(ask(command, question))
    except NoAnswer as reason:
        return Opinion(None, str(reason))


def ask(command: Path, question: Question, limit_s: float = LIMIT_S) -> Answer:
    """Run the command and read what it wrote.

    Raises:
        NoAnswer: it does not know the GPU or the model, fails, takes longer, or writes something else.
    """
    system = SYSTEMS.get(question.gpu)
    if system is None:
        raise NoAnswer(f"it has no figures of {question.gpu}")
    with TemporaryDirectory(prefix="dynamo-migrate-", ignore_cleanup_errors=True) as folder:
        output, tables = Path(folder, "output"), Path(folder, "tables")
        tables.mkdir()
        status = _run([str(command), *_arguments(question, system), "--save-dir", str(tables)], output, limit_s)
        said = output.read_text(errors="replace")
        if status:
            raise NoAnswer(f"it ends with {status}: {_reason(said)}")
        version = _VERSION.search(said)
        return read_answer(tables, version[1] if version else "of an unknown version", question)


def read_answer(tables: Path, version: str, question: Question) -> Answer:
    """Read the tables that it saved below a folder.

    Raises:
        NoAnswer: they are not there, are not as known, or have no layout that was asked for.
    """
    try:
        if not any(tables.rglob(TABLE)):
            raise NoAnswer(f"it writes no {TABLE}")
        aggregated, apart = (best(tables, way, question.gpus, question.gpus_each) for way in ("agg", "disagg"))
    except (OSError, csv.Error, KeyError, ValueError) as error:
        why = f"{TABLE} has no {error}" if isinstance(error, KeyError) else str(error)
        raise NoAnswer(f"what it writes is not understood ({why}); version 0.12 is") from error
    if aggregated is None and apart is None:
        each = f" with workers of {question.gpus_each} GPUs" if question.gpus_each else ""
        raise NoAnswer(f"it names no layout{each} that keeps the times")
    return Answer(version, aggregated, apart)


def _arguments(question: Question, system: str) -> Iterator[str]:
    load = question.load
    yield from ("cli", "default", "--model-path", str(question.checkpoint.absolute()), "--system", system)
    # Tritium's language models run on vLLM.
    yield from ("--backend", "vllm", "--isl", str(load.prompt_tokens), "--osl", str(load.answer_tokens))
    yield from ("--ttft", f"{load.first_token_s * 1e3:g}", "--tpot", f"{load.between_tokens_s * 1e3:g}", "--strict-sla")
    if question.gpus is None:
        yield from ("--target-request-rate", f"{load.rate:g}")
    else:
        yield from ("--total-gpus", str(question.gpus))
    yield from ("--top-n", _ROWS, "--log-level", "INFO", "--no-color")


def _run(words: list[str], output: Path, limit_s: float) -> int:
    """Run a command to its end, and end it with all that it started when it takes too long; return its status."""
    surroundings = os.environ | {"PYTHONWARNINGS": "ignore", "MPLBACKEND": "Agg"}
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(  # noqa: S603  (the words are ours, the command is the user's)
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=surroundings,
                cwd=output.parent,
                start_new_session=True,
            )
        except OSError as error:
            raise NoAnswer(f"{words[0]} does not start: {error.strerror}") from error
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"it took longer than {limit_s:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _reason(said: str) -> str:
    """Return the last error that a run logged, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    logged = [line.partition("] [E] ")[2].partition("] ")[2].strip(" ->") for line in lines if "] [E] " in line]
    reason = (logged or lines or ["it says nothing"])[-1]
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
