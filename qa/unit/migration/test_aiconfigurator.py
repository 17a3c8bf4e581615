"""aiconfigurator: its recorded answers are read, it is run within a bound, and nothing depends on its being there."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from qa.unit.migration import aiconfigurator_tables as recorded
from qa.unit.migration.test_outlook import LLAMA

from tritium.migration.cli import main
from tritium.migration.forecasting.aiconfigurator import (
    Answer,
    NoAnswer,
    Opinion,
    Question,
    ask,
    installed,
    opinion,
    read_answer,
)
from tritium.migration.forecasting.forecast import Load
from tritium.migration.forecasting.layout_table import Candidate

LOAD = Load(rate=20.0, prompt_tokens=2048, answer_tokens=256, first_token_s=1.0, between_tokens_s=0.05)
REAL = installed()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint's folder, of which only the configuration is there."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(LLAMA | {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192})
    )
    return folder


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on PATH in which a command can be put; whatever is installed is out of sight."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    if installed() is not None:
        pytest.skip("aiconfigurator is installed for the whole system")
    return tmp_path / "bin"


def _answer(tmp_path: Path, aggregated: str, apart: str, gpus: int | None, gpus_each: int | None = None) -> Answer:
    tables = recorded.save(tmp_path / "tables", aggregated, apart)
    return read_answer(tables, "0.12.0", Question(Path("weights"), "h100", LOAD, gpus, gpus_each))


def test_the_better_way_is_the_one_with_more_tokens_a_gpu(tmp_path: Path) -> None:
    """A row is one replica; as many run as the GPUs allow."""
    answer = _answer(tmp_path, recorded.TOGETHER, recorded.TOGETHER_OTHER, gpus=4, gpus_each=1)
    assert answer.aggregated == Candidate(0, 4, 4, 3409.101, 165.767 / 1e3, 46.283 / 1e3)
    assert answer.apart == Candidate(2, 2, 4, 2407.104, 86.146 / 1e3, 26.519 / 1e3)
    assert not answer.is_apart
    assert answer.said == (
        "aiconfigurator 0.12.0: aggregated on 4 GPUs, 3409 tokens/s/GPU, first token 166 ms, then 46.3 ms a token; "
        "against 2 prefill : 2 decode on 4 GPUs, 2407 tokens/s/GPU, first token 86 ms, then 26.5 ms a token"
    )


def test_apart_is_better_where_tokens_have_to_come_fast(tmp_path: Path) -> None:
    """And what is said begins with it."""
    answer = _answer(tmp_path, recorded.APART_OTHER, recorded.APART, gpus=8, gpus_each=1)
    assert answer.is_apart
    assert answer.said.startswith("aiconfigurator 0.12.0: 4 prefill : 4 decode on 8 GPUs, 1128 tokens/s/GPU")
    assert "against aggregated on 8 GPUs, 948 tokens/s/GPU" in answer.said


def test_only_layouts_of_the_workers_that_are_count(tmp_path: Path) -> None:
    """Workers of a group are alike; a layout of one GPU for prompts and two for tokens is none of ours."""
    answer = _answer(tmp_path, recorded.TOGETHER, recorded.TOGETHER_OTHER, gpus=4, gpus_each=2)
    assert answer.aggregated is not None
    assert answer.aggregated.workers == 2
    assert answer.apart is None
    assert answer.said.endswith("; no layout of the other way keeps the times")
    with pytest.raises(NoAnswer, match="no layout with workers of 16 GPUs"):
        read_answer(tmp_path / "tables", "0.12.0", Question(Path("weights"), "h100", LOAD, 32, 16))


def test_for_a_rate_fewer_gpus_are_better(tmp_path: Path) -> None:
    """Of as many GPUs those that give more."""
    answer = _answer(tmp_path, recorded.RATE, recorded.RATE_APART, gpus=None)
    assert answer.aggregated == Candidate(0, 2, 2, 3409.101, 165.767 / 1e3, 46.283 / 1e3)
    assert answer.apart is not None
    assert (answer.apart.prefill_workers, answer.apart.workers, answer.apart.gpus) == (2, 2, 4)
    assert not answer.is_apart


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "names no layout"),
        ("throughput\n12\n", "has no 'num_total_gpus'"),
        (f"{recorded.WORKER}\n1,2,many,1\n", "many"),
        (f"{recorded.WORKER}\n1,2,nan,1\n", "tokens/s/gpu_cluster is nan"),
        (f"{recorded.WORKER}\n1,2\n", "num_total_gpus is empty"),
        (f"{recorded.WORKER}\n1,2,3,0\n", "num_total_gpus is 0"),
        (f"{recorded.WORKER}\n1,2,3,64\n", "takes 64 GPUs, where there are 4"),
        ("\x00\xff", "names no layout"),
    ],
)
def test_tables_that_are_none_are_no_answer(tmp_path: Path, table: str, reason: str) -> None:
    """What is wrong is said."""
    with pytest.raises(NoAnswer, match=reason):
        _answer(tmp_path, table, "", gpus=4)


def test_it_is_asked_for_what_the_forecast_knows(path: Path, checkpoint: Path) -> None:
    """Times in milliseconds, its own names of GPUs; and its version is read."""
    found = recorded.answering(path, recorded.TOGETHER, recorded.TOGETHER_OTHER)
    said = opinion(Question(checkpoint, "a100-80", LOAD, 4))
    assert said is not None
    assert said.answer is not None
    assert said.answer.version == "0.12.0"
    asked = (found.parent / "asked").read_text()
    assert f"cli default --model-path {checkpoint} --system a100_sxm --backend vllm" in asked
    assert "--isl 2048 --osl 256 --ttft 1000 --tpot 50 --strict-sla --total-gpus 4" in asked
    opinion(Question(checkpoint, "h100", LOAD))
    assert "--target-request-rate 20 " in (found.parent / "asked").read_text()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "ends with 3: it says nothing"),
        ("echo error: unrecognized arguments: --strict-sla >&2; exit 2", "unrecognized arguments: --strict-sla"),
        ("echo '03:29 [aic] [E] [main.py:1] Model is not known'; echo done; exit 1", "ends with 1: Model is not known"),
        ("head -c 5000 /dev/zero | tr '\\0' x; exit 1", "x{240}...$"),
        ("head -c 5000 /dev/urandom", "writes no best_config_topn.csv"),
        ("kill -9 $$", "ends with -9"),
    ],
)
def test_a_command_that_fails_is_no_answer(path: Path, checkpoint: Path, script: str, reason: str) -> None:
    """Its last error is the reason, cut short."""
    with pytest.raises(NoAnswer, match=reason):
        ask(recorded.command(path, script), Question(checkpoint, "h100", LOAD, 4))


def test_a_command_that_hangs_is_ended(path: Path, checkpoint: Path) -> None:
    """With what it started, which holds its output open."""
    with pytest.raises(NoAnswer, match=r"longer than 0\.1 s"):
        ask(recorded.command(path, "sleep 600 & sleep 600"), Question(checkpoint, "h100", LOAD, 4), limit_s=0.1)


def test_a_command_that_does_not_start_is_no_answer(path: Path, checkpoint: Path) -> None:
    """As one whose interpreter went away."""
    file = recorded.command(path, "")
    file.write_text("#!/nowhere/python\n")
    with pytest.raises(NoAnswer, match="does not start: No such file"):
        ask(file, Question(checkpoint, "h100", LOAD, 4))


def test_a_gpu_that_it_does_not_know_is_not_asked_for(path: Path, checkpoint: Path) -> None:
    """The command is not run."""
    file = recorded.command(path, f"touch {path}/ran")
    with pytest.raises(NoAnswer, match="no figures of t4"):
        ask(file, Question(checkpoint, "t4", LOAD, 4))
    assert not (path / "ran").exists()


def test_without_it_nothing_is_asked(path: Path, checkpoint: Path) -> None:
    """And the report of a forecast has no word of it."""
    assert opinion(Question(checkpoint, "h100", LOAD, 4)) is None
    for form in ("text", "json"):
        result = CliRunner().invoke(main, ["forecast", str(checkpoint), "--format", form])
        assert result.exit_code == 0, result.output
        assert "aiconfigurator" not in result.output
    assert not path.exists()


def test_it_is_found_beside_the_running_python(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where both are in an environment that is not activated."""
    beside = recorded.command(path.parent / "environment", "")
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    assert installed() == beside


def test_a_forecast_tells_its_answer_or_why_there_is_none(path: Path, checkpoint: Path) -> None:
    """Beside our own figures, which stay."""
    recorded.command(path, "echo error: out of luck; exit 1")
    result = CliRunner().invoke(main, ["forecast", str(checkpoint)])
    assert "aiconfigurator gave no answer, so the forecast stands: it ends with 1: error: out of luck" in result.output
    assert "aggregated: 1 x h100" in result.output
    recorded.answering(path, recorded.RATE, recorded.RATE_APART)
    result = CliRunner().invoke(main, ["forecast", str(checkpoint), "--rate", "20", "--format", "json"])
    told = json.loads(result.output)["aiconfigurator"]
    assert told["missing"] == ""
    assert (told["answer"]["aggregated"]["gpus"], told["answer"]["apart"]["prefill_workers"]) == (2, 2)


@pytest.mark.skipif(REAL is None, reason="aiconfigurator is not installed")
def test_the_real_one_answers(checkpoint: Path) -> None:
    """For a model whose architecture it knows, with nothing fetched."""
    assert REAL is not None
    said = Opinion(ask(REAL, Question(checkpoint, "h100", LOAD, 4, 1), limit_s=300.0))
    assert said.answer is not None
    assert said.answer.version[0].isdigit()
    assert said.answer.aggregated is not None
    assert said.answer.aggregated.workers == 4
    assert 0 < said.answer.aggregated.between_tokens_s <= 0.05
    assert said.answer.apart is not None
    assert said.answer.apart.prefill_workers + said.answer.apart.workers == 4
