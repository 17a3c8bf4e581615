"""What the audit says of models agrees with what the server does with them."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tritium.cli.check import check
from tritium.migration.audit import audit
from tritium.migration.finding import Finding, ModelReport, Severity, Verdict

PYTHON = """backend: "python"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
ENSEMBLE = """platform: "ensemble"
max_batch_size: 4
input [ { name: "a" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "c" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling { step [
  { model_name: "one" model_version: -1 input_map { key: "x" value: "a" } output_map { key: "y" value: "b" } },
  { model_name: "two" model_version: -1 input_map { key: "x" value: "b" } output_map { key: "y" value: "c" } }
] }
"""
MODEL = "class TritonPythonModel:\n    pass\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
MEMBERS = {
    "one/config.pbtxt": PYTHON,
    "one/1/model.py": MODEL,
    "two/config.pbtxt": PYTHON,
    "two/1/model.py": MODEL,
}


def write(root: Path, files: dict[str, str]) -> Path:
    """Write a repository."""
    for name, text in files.items():
        path = root / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def model(root: Path, name: str) -> ModelReport:
    """Audit a folder and return one of its models."""
    return next(m for m in audit(root).models if m.name == name)


def of(report: ModelReport, rule: str) -> list[Finding]:
    """Return the findings of one rule."""
    return [finding for finding in report.findings if finding.rule == rule]


AGREEMENT: dict[str, dict[str, str]] = {
    "served": {"m/config.pbtxt": PYTHON, "m/1/model.py": MODEL},
    "no model.py": {"m/config.pbtxt": PYTHON, "m/1/other.py": MODEL},
    "the wrong version": {"m/config.pbtxt": PYTHON, "m/1/model.py": MODEL, "m/2/other.py": MODEL},
    "an older version is enough": {
        "m/config.pbtxt": PYTHON + "version_policy { specific { versions: [ 1 ] } }\n",
        "m/1/model.py": MODEL,
        "m/2/other.py": MODEL,
    },
    "no version of the policy": {
        "m/config.pbtxt": PYTHON + "version_policy { specific { versions: [ 3 ] } }\n",
        "m/1/model.py": MODEL,
    },
    "v1": {"m/config.pbtxt": PYTHON, "m/v1/model.py": MODEL},
    "beside": {"m/config.pbtxt": PYTHON, "m/model.py": MODEL},
    "misnamed": {"m/config.pbtxt": PYTHON + 'name: "n"\n', "m/1/model.py": MODEL},
    "bad tensor": {"m/config.pbtxt": PYTHON.replace("[ 3 ]", "[ 0 ]"), "m/1/model.py": MODEL},
    "bad pair": {"m/config.pbtxt": PYTHON + 'platform: "onnxruntime_onnx"\n', "m/1/model.py": MODEL},
    "unknown field": {"m/config.pbtxt": PYTHON + "strict_model_config: true\n", "m/1/model.py": MODEL},
    "labels": {"m/config.pbtxt": PYTHON.replace('"y"', '"y" label_filename: "l.txt"'), "m/1/model.py": MODEL},
    "renamed file": {"m/config.pbtxt": PYTHON + 'default_model_filename: "a.py"\n', "m/1/a.py": MODEL},
    "vllm without its file": {"m/config.pbtxt": 'backend: "vllm"\n', "m/1/weights.bin": "0"},
    "bare python": {"m/1/model.py": MODEL},
    "bare vllm": {"m/1/model.json": "{}"},
    "scattered outputs": {
        "m/config.pbtxt": PYTHON + 'batch_output [ { target_name: "y" source_input: "x" } ]\n',
        "m/1/model.py": MODEL,
    },
    "ensemble": {"m/config.pbtxt": ENSEMBLE, **MEMBERS},
    "ensemble without a member": {
        "m/config.pbtxt": ENSEMBLE,
        "one/config.pbtxt": PYTHON,
        "one/1/model.py": MODEL,
    },
    "ensemble of another datatype": {
        "m/config.pbtxt": ENSEMBLE,
        **MEMBERS,
        "two/config.pbtxt": PYTHON.replace('"x" data_type: TYPE_FP32', '"x" data_type: TYPE_INT32'),
    },
    "ensemble of another shape": {"m/config.pbtxt": ENSEMBLE, **MEMBERS, "two/config.pbtxt": PYTHON.replace("3", "4")},
    "ensemble of a smaller batch": {
        "m/config.pbtxt": ENSEMBLE,
        **MEMBERS,
        "two/config.pbtxt": PYTHON.replace("size: 4", "size: 2"),
    },
    "ensemble of another tensor": {"m/config.pbtxt": ENSEMBLE.replace('key: "x"', 'key: "z"'), **MEMBERS},
    "ensemble of itself": {"m/config.pbtxt": ENSEMBLE.replace('"two"', '"m"'), **MEMBERS},
}


@pytest.mark.parametrize("case", AGREEMENT)
def test_the_verdict_agrees_with_the_server(tmp_path: Path, case: str) -> None:
    """A repository whose files are all here serves as it is exactly when `tritium check` finds nothing fatal."""
    root = write(tmp_path, AGREEMENT[case])
    serves = all(m.verdict is Verdict.SERVES for m in audit(root).models)
    checked = CliRunner().invoke(check, [str(root / "models")])
    assert checked.exit_code in (0, 2), checked.output
    assert serves == (checked.exit_code == 0), checked.output
    assert model(root, "m").findings or serves


def test_a_misnumbered_version_is_renamed(tmp_path: Path) -> None:
    """A folder `v1` is told with the command that mends it."""
    report = model(write(tmp_path, {"m/config.pbtxt": PYTHON, "m/v1/model.py": MODEL}), "m")
    (finding,) = of(report, "M36")
    assert report.verdict is Verdict.BROKEN
    assert finding.advice == "mv models/m/v1 models/m/1"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"m/1/.gitkeep": ""},
        {"m/1/README.md": "fetch it"},
        {"m/1/model.py": POINTER},
        {"m/1/model.py": POINTER, "m/1/vocabulary.json": "{}"},
        {"m/1/labels.json": "[]"},
    ],
)
def test_weights_that_are_elsewhere_are_no_error(tmp_path: Path, files: dict[str, str]) -> None:
    """A configuration alone, an empty version, a git-lfs pointer or what goes with a model are a remark, no more."""
    report = model(write(tmp_path, {"m/config.pbtxt": PYTHON, **files}), "m")
    assert report.verdict is Verdict.SERVES
    assert [(f.rule, f.severity) for f in report.findings] == [("M22", Severity.INFO)]


def test_a_model_under_another_name_is_an_error(tmp_path: Path) -> None:
    """What is a model by its suffix is the one that was meant; the server does not look for that name."""
    report = model(write(tmp_path, {"m/config.pbtxt": PYTHON, "m/1/main.py": MODEL}), "m")
    assert report.verdict is Verdict.BROKEN
    assert [finding.message for finding in of(report, "M36")] == ["version 1 of model 'm' has no model.py"]


def test_models_without_configuration_are_listed(tmp_path: Path) -> None:
    """A version with a model's file makes a folder a model; Triton's other formats are recognized too."""
    files = {
        "net/1/model.onnx": "0",
        "code/1/model.py": MODEL,
        "plan/3/model.plan": "0",
        "script/1/model.pt": "0",
        "docs/1/notes.md": "no model",
    }
    kinds = {m.name: (m.kind, m.verdict, m.path) for m in audit(write(tmp_path, files)).models}
    assert kinds == {
        "code": ("python", Verdict.SERVES, Path("models/code")),
        "net": ("onnxruntime", Verdict.SERVES, Path("models/net")),
        "plan": ("tensorrt", Verdict.CONVERT, Path("models/plan")),
        "script": ("pytorch", Verdict.SERVES, Path("models/script")),
    }


def test_a_configuration_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    """Garbage, a link to nowhere, and what is far too large are listed, not passed over."""
    root = write(tmp_path, {"large/config.pbtxt": "#" * (3 << 20), "words/config.pbtxt": "this is { not [ a config"})
    for name in ("bytes", "nowhere"):
        (root / "models" / name).mkdir()
    (root / "models/bytes/config.pbtxt").write_bytes(b"\xff\xfe\x00\x80\x81")
    (root / "models/nowhere/config.pbtxt").symlink_to(root / "gone")
    models = audit(root).models
    assert {m.name: m.verdict for m in models} == dict.fromkeys(("bytes", "large", "nowhere", "words"), Verdict.BROKEN)
    assert all(of(m, "M20") for m in models)


def test_pipes_are_not_read(tmp_path: Path) -> None:
    """A named pipe, which would wait for a writer for ever, is passed over wherever it lies."""
    root = write(tmp_path, {"m/config.pbtxt": PYTHON, "m/1/model.py": MODEL})
    os.mkfifo(root / "models/m/1/pipe")
    (root / "models/pipe").mkdir()
    os.mkfifo(root / "models/pipe/config.pbtxt")
    assert [(m.name, m.verdict) for m in audit(root).models] == [("m", Verdict.SERVES)]


def test_a_model_folder_is_called_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Auditing "." within a model's folder knows what the folder is called."""
    root = write(tmp_path, {"m/config.pbtxt": PYTHON + 'name: "m"\n', "m/1/model.py": MODEL})
    monkeypatch.chdir(root / "models/m")
    (report,) = audit(Path()).models
    assert (report.name, report.verdict, report.path) == ("m", Verdict.SERVES, Path("config.pbtxt"))


def test_a_sample_by_itself_may_be_called_otherwise(tmp_path: Path) -> None:
    """A configuration that lies alone is copied under its right name; one among models is refused by Triton."""
    named = PYTHON + 'name: "resnet"\n'
    (tmp_path / "guide/start").mkdir(parents=True)
    (tmp_path / "guide/start/config.pbtxt").write_text(named)
    assert model(tmp_path, "start").verdict is Verdict.CHANGE
    write(tmp_path, {"m/config.pbtxt": named, "o/config.pbtxt": PYTHON})
    assert model(tmp_path, "m").verdict is Verdict.BROKEN


def test_values_filled_in_later_are_no_mistakes(tmp_path: Path) -> None:
    """A template of any dialect is told as one; what its engine is shows in its parameters."""
    engine = 'backend: "${b}"\nparameters { key: "gpt_model_path" value { string_value: "${p}" } }\n'
    files = {
        "dollar/config.pbtxt": PYTHON.replace("size: 4", "size: ${size}"),
        "capitals/config.pbtxt": PYTHON.replace("[ 3 ]", "[ TOPK ]"),
        "braces/config.pbtxt": PYTHON.replace("size: 4", "size: {{ size }}"),
        "engine/config.pbtxt": engine,
        "typing/config.pbtxt": PYTHON.replace("TYPE_FP32", "TYPE_FP23"),
        "field/config.pbtxt": PYTHON + "speed: FAST\n",
    }
    verdicts = {m.name: m.verdict for m in audit(write(tmp_path, files)).models}
    assert verdicts == {
        "dollar": Verdict.CHANGE,
        "capitals": Verdict.CHANGE,
        "braces": Verdict.CHANGE,
        "engine": Verdict.CONVERT,
        "typing": Verdict.BROKEN,
        "field": Verdict.BROKEN,
    }


def test_an_ensemble_fares_as_its_members(tmp_path: Path) -> None:
    """An ensemble of a model that must be converted does not serve as it is, and says which step it is."""
    plan = PYTHON.replace('backend: "python"', 'platform: "tensorrt_plan"')
    root = write(tmp_path, {"m/config.pbtxt": ENSEMBLE, **MEMBERS, "two/config.pbtxt": plan})
    report = model(root, "m")
    (finding,) = of(report, "M08")
    assert report.verdict is Verdict.CHANGE
    assert "step 'two' must be converted" in finding.message
    assert finding.line == 7


def test_a_member_in_another_repository_is_pointed_at(tmp_path: Path) -> None:
    """A step whose model lies in a second repository needs both served, which is no mistake."""
    files = {name: text for name, text in MEMBERS.items() if name.startswith("one")}
    root = write(tmp_path, {"m/config.pbtxt": ENSEMBLE, **files})
    (root / "more/two/1").mkdir(parents=True)
    (root / "more/two/config.pbtxt").write_text(PYTHON)
    (root / "more/two/1/model.py").write_text(MODEL)
    report = model(root, "m")
    assert report.verdict is Verdict.CHANGE
    assert "more/two/config.pbtxt" in of(report, "M08")[0].advice


def test_a_language_model_in_five_is_recognized(tmp_path: Path) -> None:
    """TensorRT-LLM's layout is one language model, told by what its models are, not by what they are called."""
    ensemble = ENSEMBLE.replace('"one"', '"before"').replace('"two"', '"engine"')
    engine = PYTHON.replace('"python"', '"tensorrtllm"')
    caller = PYTHON + 'parameters { key: "model" value { string_value: "engine" } }\n'
    root = write(
        tmp_path,
        {
            "all/config.pbtxt": ensemble,
            "before/config.pbtxt": PYTHON,
            "engine/config.pbtxt": engine,
            "calls/config.pbtxt": caller,
            "other/config.pbtxt": PYTHON,
        },
    )
    (group,) = audit(root).groups
    assert group.members == ("all", "before", "engine", "calls")
    assert group.path == Path("models")
