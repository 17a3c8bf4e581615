"""TensorRT-LLM's five models become one: what is carried over, who keeps what, and what is left to a person."""

import json
import shutil
from pathlib import Path

import pytest

from tritium.llm.facade.trtllm_tensors import TEXT_INPUTS, TEXT_OUTPUTS
from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.applying.output import apply_to
from tritium.migration.planning.answers import Answers
from tritium.migration.planning.old_names import INPUTS, OUTPUTS
from tritium.migration.planning.plan import Plan
from tritium.migration.planning.planner import Wishes, make_plan
from tritium.migration.planning.preview import preview
from tritium.migration.planning.saved import StalePlan, load, save

FIVE = Path(__file__).parents[2] / "migration" / "five_models"
ENGINE = "models/tensorrt_llm"
CHECKPOINT = "acme/llama-tuned"


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Return a copy of the five models, and what starts them."""
    return Path(shutil.copytree(FIVE, tmp_path / "five"))


def planned(root: Path, checkpoint: str = CHECKPOINT) -> Plan:
    """Plan with the checkpoint answered and one model asked for."""
    answers = Answers({("checkpoint", ENGINE): checkpoint} if checkpoint else {})
    return make_plan(root, Wishes(answers, frozenset({"M03"})))


def files(root: Path) -> dict[str, bytes | None]:
    """Return every file's bytes, and None for every folder."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


def edit(path: Path, old: str, new: str) -> None:
    """Replace what has to be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_five_models_become_one_under_the_old_names(five: Path, tmp_path: Path) -> None:
    """Arguments come from the engine's parameters, and the launcher of ranks gives way to the server."""
    apply_to(planned(five), five, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new/models").iterdir()) == ["tensorrt_llm"]
    assert json.loads((tmp_path / "new" / ENGINE / "1/model.json").read_text()) == {
        "model": CHECKPOINT,
        "max_num_seqs": 8,
        "enable_prefix_caching": True,
        "gpu_memory_utilization": 0.85,
        "aliases": ["ensemble", "tensorrt_llm_bls"],
    }
    assert (tmp_path / "new" / ENGINE / "config.pbtxt").read_bytes() == (five / ENGINE / "config.pbtxt").read_bytes()
    started = (tmp_path / "new/start.sh").read_text()
    assert started.endswith("one is left.\ntritonserver --model-repository=/models --http-port=8000\n")


def test_what_is_not_carried_over_is_told_with_the_reason(five: Path) -> None:
    """Each parameter that is set and becomes no argument; those never filled in are passed over."""
    said = {note.message.split(" ")[0]: note.message for note in planned(five).notes if note.severity == "info"}
    assert set(said) >= {"gpt_model_path", "max_tokens_in_paged_kv_cache", "guided_decoding_backend", "tokenizer_dir"}
    assert "the checkpoint's own tokenizer" in said["tokenizer_dir"]
    assert not {"enable_chunked_context", "add_special_tokens", "exclude_input_in_output"} & set(said)


def test_without_a_checkpoint_it_is_only_told(five: Path) -> None:
    """Nothing is taken away before somebody said what is served instead."""
    plan = planned(five, checkpoint="")
    assert not plan.removes
    assert [question.about for question in plan.questions if question.is_open] == [ENGINE]
    (note,) = [note for note in plan.notes if note.rule == "M03"]
    assert "become one model tensorrt_llm" in note.message


def test_it_is_made_for_who_asks(five: Path) -> None:
    """With the checkpoint answered alone, the engine's model serves it and the others stay around it."""
    plan = make_plan(five, Wishes(Answers({("checkpoint", ENGINE): CHECKPOINT})))
    assert not plan.removes
    assert [one.change.rule for one in plan.withheld if one.change.path.endswith("tensorrt_llm/config.pbtxt")] == [
        "M03"
    ]
    assert CHECKPOINT in plan.pieces[f"{ENGINE}/config.pbtxt"][0].new


def test_in_place_and_back_to_the_byte(five: Path) -> None:
    """Empty folders included; a second apply and a second plan have nothing to do."""
    (five / "models/ensemble/1/.gitkeep").unlink()
    before, plan = files(five), planned(five)
    apply_in_place(plan, five)
    assert not (five / "models/ensemble").exists()
    assert apply_in_place(plan, five) == []
    assert planned(five).changes == []
    roll_back(five)
    assert files(five) == before


def test_a_saved_plan_holds_what_goes_away(five: Path, tmp_path: Path) -> None:
    """A file that is taken away is an input like any other: changed, the plan is stale."""
    (five / "models/preprocessing/1/table.bin").write_bytes(b"\0\1")
    plan = planned(five)
    save(plan, tmp_path / "plan.json")
    assert load(tmp_path / "plan.json") == plan
    assert "models/preprocessing/1/table.bin goes away" in preview(plan, five)
    (five / "models/preprocessing/1/table.bin").write_bytes(b"\0\2")
    with pytest.raises(StalePlan, match=r"table\.bin: was changed"):
        apply_in_place(plan, five)


def test_a_file_that_nobody_planned_for_stays(five: Path) -> None:
    """What came into a folder after the plan, and is no text, is not deleted with it."""
    plan = planned(five)
    (five / "models/postprocessing/1/late.bin").write_bytes(b"\0\1")
    apply_in_place(plan, five)
    assert [str(p.relative_to(five)) for p in (five / "models/postprocessing").rglob("*") if p.is_file()] == [
        "models/postprocessing/1/late.bin"
    ]


def test_a_model_that_others_use_stays(five: Path) -> None:
    """Another model of the repository asks preprocessing by its name: it goes on doing so."""
    other = five / "models/count/1"
    other.mkdir(parents=True)
    (other / "model.py").write_text("import triton_python_backend_utils\nNAME = 'preprocessing'\n")
    (five / "models/count/config.pbtxt").write_text('backend: "python"\n')
    removed = {path.split("/")[1] for path in planned(five).removes}
    assert removed == {"ensemble", "tensorrt_llm_bls", "postprocessing"}


@pytest.mark.parametrize(
    ("path", "old", "new", "why"),
    [
        ("ensemble", '"text_output"', '"WAVEFORM"', "has tensors that no language model has here (WAVEFORM)"),
        ("tensorrt_llm", "max_batch_size: 8", "max_batch_size: ${batch}", "is filled in when it is deployed"),
        ("preprocessing", 'backend: "python"', 'backend: "onnxruntime"', "preprocessing is more than tokenizing"),
    ],
)
def test_what_is_no_plain_language_model_stays(five: Path, path: str, old: str, new: str, why: str) -> None:
    """Clients would lose tensors, or the model something it does."""
    edit(five / "models" / path / "config.pbtxt", old, new)
    plan = planned(five)
    assert not plan.removes
    assert any(why in note.message for note in plan.notes if note.rule == "M03")


def test_a_caller_with_tensors_of_its_own_stays(five: Path) -> None:
    """It calls the engine's model by token ids, which that has under its own name."""
    edit(five / "models/tensorrt_llm_bls/config.pbtxt", '"text_input"', '"AUDIO"')
    plan = planned(five)
    assert {path.split("/")[1] for path in plan.removes} == {"ensemble", "preprocessing", "postprocessing"}
    assert '"aliases": [\n    "ensemble"\n  ]' in plan.creates[f"{ENGINE}/1/model.json"]


def test_names_of_ones_own_get_the_surface_of_texts(five: Path) -> None:
    """Only the two usual names have it unasked."""
    (five / "models/ensemble").rename(five / "models/chat")
    edit(five / "models/chat/config.pbtxt", 'name: "ensemble"\nplatform', 'name: "chat"\nplatform')
    made = json.loads(planned(five).creates[f"{ENGINE}/1/model.json"])
    assert made["aliases"] == {"chat": "trtllm", "tensorrt_llm_bls": "trtllm"}


def test_ranks_and_explicit_loads_follow(five: Path) -> None:
    """N ranks are a worker of N GPUs; --load-model names the one model, once."""
    edit(five / "start.sh", "--world_size=1", "--world_size=4")
    loads = "tritonserver --model-control-mode=explicit --load-model=ensemble --load-model=preprocessing\n"
    (five / "explicit.sh").write_text(loads)
    plan = planned(five)
    assert json.loads(plan.creates[f"{ENGINE}/1/model.json"])["tensor_parallel_size"] == 4
    apply_in_place(plan, five)
    assert (five / "explicit.sh").read_text() == (
        "tritonserver --model-control-mode=explicit --load-model=tensorrt_llm\n"
    )


def test_who_still_names_what_goes_away_is_told(five: Path) -> None:
    """Scripts that fill in its configuration, and clients that ask it."""
    (five / "fill.sh").write_text("fill_template.py -i /models/preprocessing/config.pbtxt a:b\ntritonserver --a=b\n")
    (five / "client.py").write_text(
        "import tritonclient.http as c\nc.InferenceServerClient('a').infer('preprocessing')\n"
    )
    said = {(note.path, note.message) for note in planned(five).notes if note.rule == "M03"}
    assert ("fill.sh", "names a file of preprocessing, which goes away") in said
    assert ("client.py", "asks preprocessing, which goes away") in said


def test_the_tensors_are_the_servers_own() -> None:
    """What is said to be kept under the old names is what the server has there."""
    assert frozenset(name for name, *_ in TEXT_INPUTS) == INPUTS
    assert frozenset(name for name, *_ in TEXT_OUTPUTS) == OUTPUTS


def test_several_ensembles_around_one_engine_become_names_of_it(five: Path) -> None:
    """One that has other tensors stays, with the models that are its steps."""
    shutil.copytree(five / "models/ensemble", five / "models/chat")
    edit(five / "models/chat/config.pbtxt", 'name: "ensemble"\nplatform', 'name: "chat"\nplatform')
    (change,) = [one for one in planned(five).changes if one.rule == "M03"]
    assert json.loads(change.creates[0].text)["aliases"] == dict.fromkeys(
        ("chat", "tensorrt_llm_bls", "ensemble"), "trtllm"
    )
    edit(five / "models/chat/config.pbtxt", '"text_output"', '"WAVEFORM"')
    assert {path.split("/")[1] for path in planned(five).removes} == {"ensemble", "tensorrt_llm_bls"}


@pytest.mark.parametrize(
    ("name", "value", "argument", "expected"),
    [
        ("enable_chunked_context", "true", "enable_chunked_prefill", True),
        ("enable_chunked_context", "false", "enable_chunked_prefill", None),
        ("gpu_device_ids", "0,1", "tensor_parallel_size", 2),
        ("gpu_device_ids", "3", "tensor_parallel_size", None),
        ("kv_cache_free_gpu_mem_fraction", "much", "gpu_memory_utilization", None),
        ("a_parameter_of_tomorrow", "1", "", None),
    ],
)
def test_a_parameter_is_an_argument_or_told(name: str, value: str, argument: str, expected: object, five: Path) -> None:
    """Never neither: what cannot be carried over has a reason."""
    config = five / ENGINE / "config.pbtxt"
    lines = [line for line in config.read_text().splitlines() if f'"{name}"' not in line]
    config.write_text("\n".join([*lines, f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n']))
    plan = planned(five)
    assert json.loads(plan.creates[f"{ENGINE}/1/model.json"]).get(argument) == expected
    told = any(note.message.startswith(f"{name} {value} is not carried over: ") for note in plan.notes)
    assert told == (expected is None)


def test_an_engine_that_serves_a_checkpoint_already_is_left_alone(five: Path) -> None:
    """Its arguments are somebody's own: what to add to them is said."""
    (five / ENGINE / "1/model.json").write_text('{"model": "acme/other"}')
    plan = planned(five)
    assert not plan.removes
    (note,) = [note for note in plan.notes if note.rule == "M03"]
    assert 'name the others as "aliases" in its model.json' in note.message
