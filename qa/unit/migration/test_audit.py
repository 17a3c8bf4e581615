"""dynamo-migrate audit, on deployments written here in the shapes that are common in the wild."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from tritium.migration.audit import AuditError, audit
from tritium.migration.cli import main
from tritium.migration.finding import Severity, Verdict
from tritium.migration.kinds import KINDS

ONNX = """name: "resnet"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1000 ] } ]
"""


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files by their paths below root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_models_are_judged_by_kind(tmp_path: Path) -> None:
    """Each kind of model gets its verdict, whether it is named by backend, by platform or by its file alone."""
    root = write(
        tmp_path,
        {
            "models/resnet/config.pbtxt": ONNX,
            "models/chat/config.pbtxt": 'backend: "vllm"\ninstance_group [ { kind: KIND_MODEL } ]\n',
            "models/plan/config.pbtxt": 'platform: "tensorrt_plan"\n',
            "models/script/config.pbtxt": "max_batch_size: 0\n",
            "models/script/1/model.py": "",
            "models/bare/config.pbtxt": "max_batch_size: 0\n",
            "models/odd/config.pbtxt": 'backend: "my_backend"\n',
        },
    )
    verdicts = {m.name: (m.kind, m.verdict) for m in audit(root).models}
    assert verdicts == {
        "resnet": ("onnxruntime", Verdict.SERVES),
        "chat": ("vllm", Verdict.SERVES),
        "plan": ("tensorrt", Verdict.CONVERT),
        "script": ("python", Verdict.SERVES),
        "bare": ("unknown", Verdict.UNKNOWN),
        "odd": ("my_backend", Verdict.UNSUPPORTED),
    }


def test_fields_that_are_not_served_are_told_with_their_place(tmp_path: Path) -> None:
    """What would stop the load here is a blocker, what has no effect a remark; sequence batching itself is served."""
    sequences = "sequence_batching { oldest { max_candidate_sequences: 4 } }\n"
    root = write(
        tmp_path,
        {
            "m/resnet/config.pbtxt": ONNX + "optimization { priority: PRIORITY_MAX }\n",
            "m/scatter/config.pbtxt": ONNX.replace("resnet", "scatter").replace(
                'platform: "onnxruntime_onnx"', "backend: 'openvino'"
            )
            + "batch_output [ { target_name: 'y' source_input: 'x' } ]\n",
            "m/steps/config.pbtxt": ONNX.replace("resnet", "steps") + sequences,
        },
    )
    models = {m.name: m for m in audit(root).models}
    assert {name: m.verdict for name, m in models.items()} == {
        "resnet": Verdict.SERVES,
        "scatter": Verdict.CHANGE,
        "steps": Verdict.SERVES,
    }
    (remark,), (blocker,) = ([f for f in models[n].findings if f.rule == "M23"] for n in ("resnet", "scatter"))
    assert (remark.rule, remark.severity, remark.line) == ("M23", Severity.INFO, 6)
    assert (blocker.rule, blocker.severity, blocker.line) == ("M23", Severity.BLOCKER, 6)
    assert "batch_output" in blocker.message
    assert [f.rule for f in models["steps"].findings] == ["M22"]


def test_what_is_served_is_installed() -> None:
    """The audit promises exactly the backends that this version registers."""
    installed = {e.name for e in entry_points(group="tritium.backends")}
    promised = {k.name for k in KINDS if k.verdict is Verdict.SERVES}
    assert promised == installed | {"ensemble", "vllm"}


def test_a_misnamed_folder_was_broken_before(tmp_path: Path) -> None:
    """A name that differs from its folder is reported with its place, as Triton would refuse it."""
    root = write(tmp_path, {"models/resnet_copy/config.pbtxt": ONNX})
    (model,) = audit(root).models
    assert model.verdict is Verdict.BROKEN
    (finding,) = [f for f in model.findings if f.rule == "M21"]
    assert (finding.line, finding.severity) == (1, Severity.BLOCKER)


def test_a_placeholder_is_no_error(tmp_path: Path) -> None:
    """A value that is filled in at deployment time is named, not taken for a mistake."""
    root = write(tmp_path, {"m/config.pbtxt": ONNX.replace("resnet", "m").replace("8", "${max_batch}", 1)})
    (model,) = audit(root).models
    assert model.verdict is Verdict.CHANGE
    assert "${max_batch}" in next(f for f in model.findings if f.rule == "M04").message


def test_compose_and_kubernetes_and_shell_are_read(tmp_path: Path) -> None:
    """Images and command lines are found in each form, whatever list or continuation they stand in."""
    root = write(
        tmp_path,
        {
            "docker-compose.yml": (
                "services:\n  triton:\n    image: nvcr.io/nvidia/tritonserver:23.03-py3\n"
                '    command: ["tritonserver", "--model-repository=/models", "--strict-model-config=false"]\n'
            ),
            "k8s/deploy.yaml": (
                "kind: Deployment\nspec:\n  containers:\n  - command:\n    - tritonserver\n    args:\n"
                "    - --model-repository=s3://b/m\n    - --http-port=none  # speed\n"
            ),
            "run.sh": "tritonserver --model-repository /m \\\n  --no-such-flag=1\n# tritonserver --old\n",
            "notes.md": "run tritonserver\n",
        },
    )
    launches = {str(launch.path): launch for launch in audit(root).launches}
    assert sorted(launches) == ["docker-compose.yml", "k8s/deploy.yaml", "run.sh"]
    compose = launches["docker-compose.yml"]
    assert compose.commands == ("tritonserver --model-repository=/models --strict-model-config=false",)
    assert [(f.rule, f.line) for f in compose.findings] == [("L01", 3), ("L03", 4)]
    kubernetes = launches["k8s/deploy.yaml"]
    assert kubernetes.kind == "Kubernetes Deployment"
    assert [(f.rule, f.line, f.severity) for f in kubernetes.findings] == [
        ("L11", 7, Severity.INFO),
        ("L02", 8, Severity.BLOCKER),
    ]
    assert [(f.rule, f.line, f.column) for f in launches["run.sh"].findings] == [("L02", 2, 3)]


def test_no_deployment_says_so(tmp_path: Path) -> None:
    """A folder with a label map and the Triton language is not a Triton deployment."""
    root = write(tmp_path, {"label_map.pbtxt": 'item { id: 1 name: "cat" }\n', "kernel.py": "import triton\n"})
    found = audit(root)
    assert not found.is_deployment
    result = CliRunner().invoke(main, ["audit", str(root)])
    assert result.exit_code == 0
    assert "no Triton deployment found" in result.output


def test_json_carries_every_finding(tmp_path: Path) -> None:
    """The JSON form has the same models, verdicts and findings as the text."""
    root = write(tmp_path, {"models/plan/config.pbtxt": 'platform: "tensorrt_plan"\n'})
    result = CliRunner().invoke(main, ["audit", str(root), "--format", "json"])
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["summary"] == {"convert": 1}
    assert report["models"][0]["advice"].startswith("serve the ONNX file")


def test_a_missing_path_is_said(tmp_path: Path) -> None:
    """A path that is no folder ends with status 2 and a sentence."""
    with pytest.raises(AuditError, match="does not exist"):
        audit(tmp_path / "nowhere")
    assert CliRunner().invoke(main, ["audit", str(tmp_path / "nowhere")]).exit_code == 2
