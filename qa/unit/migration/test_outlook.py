"""Prefill and decode apart: proposed where a forecast for the checkpoint speaks for it, with what was assumed."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from qa.unit.migration import aiconfigurator_tables as recorded

from tritium.migration.planning.outlook import Outlook, outlook
from tritium.migration.planning.planner import Wishes, make_plan

SAMPLE = Path(__file__).parents[2] / "migration" / "sample"
LLAMA = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip


SPARSE = LLAMA | {
    "hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 1024, "moe_intermediate_size": 1024,
    "num_experts": 256, "num_experts_per_tok": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on PATH for an aiconfigurator of ours; whichever is installed is out of sight."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path / "bin"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a copy of the sample, whose chat model has its checkpoint beside it, of a size to think about."""
    root = Path(shutil.copytree(SAMPLE, tmp_path / "shop"))
    version = root / "chat/chat/1"
    (version / "weights").mkdir()
    (version / "weights/config.json").write_text(json.dumps(LLAMA))
    arguments = json.loads((version / "model.json").read_text()) | {"model": "weights"}
    (version / "model.json").write_text(json.dumps(arguments))
    return root


def test_a_split_is_proposed_with_the_gaps_it_closes(shop: Path) -> None:
    """And with the GPU, the rate and the prompts that were assumed for lack of figures."""
    (proposal,) = [one.change for one in make_plan(shop, Wishes()).withheld if one.change.rule == "FLEET"]
    assert "between two tokens of an answer become" in proposal.message
    assert "assumed: h100, 1 request a second, prompts of 2048 tokens" in proposal.message


def test_a_split_that_gains_little_is_not_proposed(shop: Path) -> None:
    """As for many experts of which a token sees one; the plan says that it was thought of, and why not."""
    (shop / "chat/chat/1/weights/config.json").write_text(json.dumps(SPARSE))
    plan = make_plan(shop, Wishes())
    assert not [one for one in plan.withheld if one.change.rule == "FLEET"]
    (note,) = [note for note in plan.notes if note.rule == "FLEET"]
    assert "apart gains little; forecast: at worst" in note.message


def test_without_its_checkpoint_nothing_is_forecast(tmp_path: Path) -> None:
    """The sample's own names one of the hub."""
    assert outlook(SAMPLE / "chat/chat", 2, 1) is None
    assert outlook(tmp_path / "nowhere", 2, 1) is None


def test_twice_as_even_is_worth_a_worker() -> None:
    """Less is not: it takes GPUs that could answer."""
    assert Outlook(0.02, 0.01).is_worth_it
    assert not Outlook(0.019, 0.01).is_worth_it


def test_aiconfigurator_decides_how_many_workers_prefill(shop: Path, path: Path) -> None:
    """Its verdict stands in the proposal, with what it was asked and our own forecast."""
    recorded.answering(path, recorded.APART_OTHER, recorded.APART)
    manifest = shop / "k8s/deployment.yaml"
    manifest.write_text(manifest.read_text().replace("nvidia.com/gpu: 2", "nvidia.com/gpu: 8"))
    (proposal,) = [one.change for one in make_plan(shop, Wishes()).withheld if one.change.rule == "FLEET"]
    assert "chat as prefill=4,decode=4:" in proposal.message
    assert "prefill=4,decode=4" in proposal.pieces[0].new
    assert (
        "aiconfigurator 0.12.0: 4 prefill : 4 decode on 8 GPUs, 1128 tokens/s/GPU, first token 184" in proposal.message
    )
    assert "forecast: at worst" in proposal.message
    assert "--total-gpus 8" in (path / "asked").read_text()


def test_what_aiconfigurator_finds_better_together_stays(shop: Path, path: Path) -> None:
    """Though the forecast alone would propose it; the plan says who decided, and it is asked once."""
    recorded.answering(path, recorded.TOGETHER, recorded.TOGETHER_OTHER)
    plan = make_plan(shop, Wishes())
    assert not [one for one in plan.withheld if one.change.rule == "FLEET"]
    (note,) = [note for note in plan.notes if note.rule == "FLEET"]
    assert (
        "prefill and decode stay together, apart gains little; aiconfigurator 0.12.0: aggregated on 2" in note.message
    )
    assert len((path / "asked").read_text().splitlines()) == 1


def test_where_aiconfigurator_fails_the_forecast_stands(shop: Path, path: Path) -> None:
    """And why there is no answer of it is said."""
    recorded.command(path, "echo 'error: the following arguments are required: command' >&2; exit 2")
    (proposal,) = [one.change for one in make_plan(shop, Wishes()).withheld if one.change.rule == "FLEET"]
    assert "chat as prefill=1,decode=1:" in proposal.message
    assert "forecast: at worst" in proposal.message
    assert (
        "aiconfigurator gave no answer, so the forecast stands: it ends with 2: error: the following"
        in proposal.message
    )


def test_aiconfigurator_is_not_asked_about_a_checkpoint_elsewhere(path: Path) -> None:
    """It would fetch it; the proposal says so."""
    recorded.command(path, f"touch {path}/ran")
    (proposal,) = [one.change for one in make_plan(SAMPLE, Wishes()).withheld if one.change.rule == "FLEET"]
    assert "; aiconfigurator is not asked: no checkpoint is here" in proposal.message
    assert not (path / "ran").exists()
