"""Plans: what is changed, what is left out and why, what is asked, and how a saved plan is read back."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tritium.migration.cli import main
from tritium.migration.metrics import KEPT, LANGUAGE
from tritium.migration.planning.answers import Answers, BadAnswers, ask, read_answers, write_answers
from tritium.migration.planning.plan import Piece
from tritium.migration.planning.planner import ALL, NoDeployment, Wishes, edits_of, make_plan
from tritium.migration.planning.preview import diff, preview
from tritium.migration.planning.saved import BadPlan, StalePlan, check_fresh, load, save
from tritium.migration.text.edit import rewrite

SAMPLE = Path(__file__).parents[2] / "migration" / "sample"
ENGINE = "llm/models/tensorrt_llm"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a copy of the sample deployment."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "shop"))


def test_safe_changes_are_planned_and_unsafe_ones_left_out(shop: Path) -> None:
    """The sample's images, old flags and probes are rewritten; launchers and guessed checkpoints are not."""
    plan = make_plan(shop, Wishes())
    assert {change.rule for change in plan.changes} == {"L01", "L03", "L07", "M02", "O01"}
    assert all(change.safe for change in plan.changes)
    left = {one.change.rule: one.reason for one in plan.withheld}
    assert set(left) == {"L05", "M05", "O02", "FLEET"}
    assert left["L05"] == "unsafe: ask for it with --unsafe=L05"


def test_unsafe_changes_are_made_for_who_asks(shop: Path) -> None:
    """By the rule's id, or all of them."""
    one = make_plan(shop, Wishes(unsafe=frozenset({"L05"})))
    assert "llm/start.sh" in one.results
    assert {left.change.rule for left in one.withheld} == {"M05", "O02", "FLEET"}
    assert make_plan(shop, Wishes(unsafe=frozenset({ALL}))).withheld == []


def test_a_checkpoint_is_asked_for_and_never_taken_silently(shop: Path) -> None:
    """The engine's configuration names a checkpoint once somebody said which."""
    plan = make_plan(shop, Wishes())
    (question,) = [one for one in plan.questions if one.topic == "checkpoint"]
    assert (question.about, question.is_open) == (ENGINE, True)
    assert question.candidates == ["meta-llama/Llama-3.1-8B-Instruct"]
    assert "--answers FILE to answer in a file" in preview(plan, shop)
    told = make_plan(shop, Wishes(Answers({("checkpoint", ENGINE): "acme/llama-tuned"})))
    assert f"{ENGINE}/config.pbtxt" in told.results
    assert "acme/llama-tuned" in told.pieces[f"{ENGINE}/config.pbtxt"][0].new
    assert not any(one.change.rule == "M05" for one in told.withheld)


def test_images_are_assumed_aloud(shop: Path) -> None:
    """Until somebody names Tritium's images, the plan says which names it goes on with."""
    said = preview(make_plan(shop, Wishes()), shop)
    assert "not answered; assumed: tritium:latest" in said
    answers = Answers({("image", ""): "acme/tritium:1", ("vllm_image", ""): "acme/tritium:1-vllm"})
    said = preview(make_plan(shop, Wishes(answers)), shop)
    assert "+    image: acme/tritium:1   # the last one that was tried" in said
    assert '+          image: "acme/tritium:1-vllm"' in said
    assert "assumed" not in said


def test_the_base_of_a_custom_image_is_asked_for(tmp_path: Path) -> None:
    """An answer replaces the image, `keep` leaves it."""
    (tmp_path / "compose.yaml").write_text(
        "services:\n  tts:\n    image: acme/triton-speech:25.06\n    command: tritonserver --model-repository=/m\n"
    )
    (question,) = make_plan(tmp_path, Wishes()).questions
    assert (question.topic, question.about) == ("base", "acme/triton-speech:25.06")
    plan = make_plan(tmp_path, Wishes(Answers({("base", question.about): "acme/tritium-speech:1"})))
    assert [piece.new for piece in plan.pieces["compose.yaml"]] == ["acme/tritium-speech:1"]
    assert make_plan(tmp_path, Wishes(Answers({("base", question.about): "keep"}))).changes == []


def test_answers_are_written_read_and_asked_for(shop: Path, tmp_path: Path) -> None:
    """A file of questions reads as no answers; what is asked for is kept in it."""
    file, answers = tmp_path / "answers.yaml", Answers()
    plan = make_plan(shop, Wishes())
    write_answers(file, plan.questions)
    assert read_answers(file).given == {}
    ask(plan.questions, answers, lambda text, assumed: "acme/llama" if "checkpoint" in text else assumed)
    write_answers(file, make_plan(shop, Wishes(answers)).questions)
    assert read_answers(file) == answers
    assert answers.to("checkpoint", ENGINE) == "acme/llama"


def test_questions_are_asked_on_the_terminal(shop: Path, tmp_path: Path) -> None:
    """An empty answer takes what is assumed, or leaves the question open; the others are in the plan and the file."""
    files = ["-o", str(tmp_path / "plan.json"), "--answers", str(tmp_path / "answers.yaml")]
    said = CliRunner().invoke(main, ["plan", str(shop), *files, "--ask"], input="acme/tritium:2\n\n\n")
    assert said.exit_code == 0, said.output
    assert "acme/tritium:2" in (tmp_path / "answers.yaml").read_text()
    answers = {one.topic: (one.answer, one.is_open) for one in load(tmp_path / "plan.json").questions}
    assert answers == {
        "image": ("acme/tritium:2", False),
        "vllm_image": ("tritium:vllm", False),
        "checkpoint": ("", True),
    }


def test_a_plan_may_lie_in_the_deployment(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It and the answers are no part of it: neither makes the plan stale, nor is edited by the next one."""
    monkeypatch.chdir(shop)
    for arguments in (["plan", ".", "--answers", "answers.yaml"], ["apply", "--in-place"], ["plan", "."]):
        said = CliRunner().invoke(main, arguments)
        assert said.exit_code == 0, said.output
    assert "# Plan: 0 changes in 0 files" in said.output
    assert CliRunner().invoke(main, ["rollback", "."]).exit_code == 0


@pytest.mark.parametrize("arguments", [["plan", "nowhere"], ["apply", "nowhere.json"], ["rollback", "nowhere"]])
def test_commands_that_cannot_be_carried_out_say_why(arguments: list[str]) -> None:
    """One line, and the exit status 2."""
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 2
    assert said.output.startswith("dynamo-migrate: nowhere")


@pytest.mark.parametrize("text", ["- image", "imagee: x", "image: [a]", "checkpoint: x", "a: {"])
def test_answers_that_answer_nothing_are_refused(text: str, tmp_path: Path) -> None:
    """A misspelt topic is told, not passed over."""
    (tmp_path / "answers.yaml").write_text(text)
    with pytest.raises(BadAnswers, match=r"answers\.yaml"):
        read_answers(tmp_path / "answers.yaml")


def test_language_models_with_gpus_to_spare_may_be_split(shop: Path) -> None:
    """Two GPUs and a worker that takes one: prefill and decode apart, with the reason; one GPU: together."""
    (proposal,) = [one.change for one in make_plan(shop, Wishes()).withheld if one.change.rule == "FLEET"]
    assert "prefill=1,decode=1: 2 GPUs are given to the server, a worker takes 1" in proposal.message
    assert 'key: "fleet"' in proposal.pieces[0].new
    manifest = shop / "k8s/deployment.yaml"
    manifest.write_text(manifest.read_text().replace("gpu: 2", "gpu: 1"))
    plan = make_plan(shop, Wishes())
    assert not any(one.change.rule == "FLEET" for one in plan.withheld)
    assert any("chat stays one worker" in note.message for note in plan.notes)


def test_words_that_go_together_leave_a_list_that_reads(tmp_path: Path) -> None:
    """A launcher's last words share commas."""
    launcher = '"python3", "/tensorrtllm_backend/scripts/launch_triton_server.py"'
    flags = '"--model_repo=/m", "--world_size=2", "--log"'
    text = f"FROM nvcr.io/nvidia/tritonserver:24.08-py3\nCMD [{launcher}, {flags}]\n"
    (tmp_path / "Dockerfile").write_text(text)
    plan = make_plan(tmp_path, Wishes(unsafe=frozenset({"L05"})))
    after = _after(tmp_path, plan.pieces["Dockerfile"])
    assert after == 'FROM tritium:latest\nCMD ["tritonserver", "--model-repository=/m"]\n'


def test_new_metrics_stand_beside_old_ones(shop: Path) -> None:
    """A panel gets a second target; in place they are replaced only for who asks."""
    plan = make_plan(shop, Wishes(unsafe=frozenset({"O02"})))
    dashboard = json.loads(_after(shop, plan.pieces["monitoring/dashboard.json"]))
    targets = dashboard["panels"][0]["targets"]
    assert [one["expr"] for one in targets] == ["avg(nv_gpu_utilization)", "avg((DCGM_FI_DEV_GPU_UTIL / 100))"]
    assert len({one["refId"] for one in targets}) == 2
    assert "alert: GpuMemoryFullOnTritium" in _after(shop, plan.pieces["monitoring/rules.yaml"])
    plan = make_plan(shop, Wishes(replace_metrics=True))
    assert "nv_gpu_utilization" not in _after(shop, plan.pieces["monitoring/dashboard.json"])


def test_a_dashboard_of_both_servers_stands_beside_the_old_one(shop: Path) -> None:
    """Each panel of it asks for the old job and the new one, of metrics that Tritium has."""
    board = json.loads(make_plan(shop, Wishes()).creates["monitoring/tritium-comparison.json"])
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert sum('job="$old"' in text for text in asked) == 6
    assert sum('job="$new"' in text for text in asked) == 9
    assert not any("{{" in text or "}}" in text for text in asked)
    named = set(re.findall(r"\b(?:nv|tritium)_\w+", " ".join(asked)))
    assert named <= KEPT | set(LANGUAGE.values())
    (shop / "monitoring/tritium-comparison.json").write_text("{}")
    assert make_plan(shop, Wishes()).creates == {}


def test_a_saved_plan_is_the_plan(shop: Path, tmp_path: Path) -> None:
    """What is read back equals what was written, bytes that are no UTF-8 included."""
    (shop / "compose.yaml").write_bytes((shop / "compose.yaml").read_bytes() + b"# caf\xe9\n")
    plan = make_plan(shop, Wishes(unsafe=frozenset({ALL})))
    save(plan, tmp_path / "plan.json")
    assert load(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 99}', "not JSON"])
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path) -> None:
    """With the file's name."""
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(BadPlan, match=r"plan\.json is no plan"):
        load(tmp_path / "plan.json")


def test_a_plan_of_another_version_or_place_is_refused(shop: Path, tmp_path: Path) -> None:
    """A file outside of the deployment is never written, whatever a plan says."""
    plan = make_plan(shop, Wishes())
    save(replace(plan, format=99), tmp_path / "plan.json")
    with pytest.raises(BadPlan, match="format 99"):
        load(tmp_path / "plan.json")
    save(replace(plan, results={"../outside": "0"}), tmp_path / "plan.json")
    with pytest.raises(BadPlan, match="outside of the deployment"):
        load(tmp_path / "plan.json")


def test_a_stale_plan_names_the_files_that_changed(shop: Path) -> None:
    """Changed, gone and new files; a plan that is fresh is not refused."""
    plan = make_plan(shop, Wishes())
    check_fresh(plan, shop)
    (shop / "compose.yaml").write_text("services: {}\n")
    (shop / "Dockerfile").unlink()
    (shop / "new.sh").write_text("tritonserver --model-repository=/m\n")
    with pytest.raises(StalePlan) as told:
        check_fresh(plan, shop)
    assert told.value.changed == ["Dockerfile: has gone", "compose.yaml: was changed", "new.sh: is new"]


def test_a_link_is_left_alone(shop: Path) -> None:
    """What it points to is somebody else's, or is edited under its own name."""
    (shop / "compose.yaml").rename(shop / "real.yaml")
    (shop / "compose.yaml").symlink_to("real.yaml")
    plan = make_plan(shop, Wishes())
    assert "real.yaml" in plan.results
    assert "compose.yaml" not in plan.results
    assert {one.reason for one in plan.withheld if one.change.path == "compose.yaml"} == {
        "left as it is: the file is a link"
    }


def test_what_is_no_deployment_is_not_planned(tmp_path: Path) -> None:
    """A folder without Triton in it."""
    (tmp_path / "kernel.py").write_text("import triton.language as tl\n")
    with pytest.raises(NoDeployment):
        make_plan(tmp_path, Wishes())


def test_secrets_are_not_shown_in_diffs() -> None:
    """Lines around a change may hold them."""
    shown = diff("start.sh", "export HF_TOKEN=hf_abcdefgh12345678\nold\n", "export HF_TOKEN=hf_abcdefgh12345678\nnew\n")
    assert "hf_abcdefgh" not in shown
    assert "+new" in shown


@pytest.mark.parametrize(
    "around",
    [
        '"environment": [{"name": "DB_PASSWORD", "value": "hunter22"}]',
        "env:\n- name: DB_PASSWORD\n  value: hunter22",
        "Environment:\n  - Name: DB_PASSWORD\n    Value: 'hunter22'",
        "ENV DB_PASSWORD hunter22",
        "serve --hf-token hunter22",
    ],
)
def test_secrets_are_not_shown_where_their_name_stands_apart(around: str) -> None:
    """In environments of JSON and YAML, in the old form of ENV, and behind a flag; references are no secrets."""
    shown = diff("file", f"{around}\nold\n", f"{around}\nnew\n")
    assert "hunter22" not in shown
    assert "+new" in shown
    reference = around.replace("hunter22", "$SECRET")
    assert "$SECRET" in diff("file", f"{reference}\nold\n", f"{reference}\nnew\n")


def _after(shop: Path, pieces: list[Piece]) -> str:
    return rewrite((shop / pieces[0].path).read_text(), edits_of(pieces))
