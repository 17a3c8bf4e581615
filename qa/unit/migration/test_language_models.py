"""Language models of Triton's layouts: told by what they are, asked for their checkpoint where it is not named."""

from pathlib import Path

import pytest

from tritium.migration.audit import audit
from tritium.migration.finding import ModelReport, Severity, Verdict

ENGINE = 'backend: "tensorrtllm"\nparameters { key: "gpt_model_path" value { string_value: "/engine" } }\n'


def model(root: Path, config: str, **files: str) -> ModelReport:
    """Write one model, files named as `1__model_json` beside its configuration, and audit it."""
    for name, text in {"config_pbtxt": config, **files}.items():
        path = root / "models/llm" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (report,) = audit(root).models
    return report


def test_an_engine_asks_for_its_checkpoint(tmp_path: Path) -> None:
    """Where nothing names one, it is asked for, and not guessed."""
    report = model(tmp_path, ENGINE)
    (asked,) = [finding for finding in report.findings if finding.rule == "M05"]
    assert (report.verdict, asked.severity, asked.fix) == (Verdict.CONVERT, Severity.QUESTION, None)
    assert "nothing here names it" in asked.message


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (f'{ENGINE}parameters {{ key: "checkpoint" value {{ string_value: "org/model-7b" }} }}\n', {}),
        ('backend: "tensorrtllm"\n', {"1__model_yaml": "model: org/model-7b\n"}),
        ('backend: "tensorrtllm"\n', {"1__model_json": '{"model": "org/model-7b"}\n'}),
    ],
    ids=["parameter", "llmapi", "model.json"],
)
def test_a_model_that_names_its_checkpoint_serves(config: str, files: dict[str, str], tmp_path: Path) -> None:
    """By our parameter, or over TensorRT-LLM's LLM API: nothing is asked."""
    report = model(tmp_path, config, **files)
    assert report.verdict is Verdict.SERVES
    assert "M05" not in {finding.rule for finding in report.findings}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("build.sh", "git clone https://huggingface.co/org/model-7b /ckpt\n"),
        ("build.sh", "hf download org/model-7b\n"),
        ("build.sh", 'HF_MODEL="org/model-7b"\n'),
        ("run.py", "snapshot_download(repo_id='org/model-7b')\n"),
        ("bench.sh", "serve --model-map tensorrt_llm=org/model-7b\n"),
    ],
)
def test_a_checkpoint_that_scripts_name_is_offered(name: str, text: str, tmp_path: Path) -> None:
    """With its place, as a fix that is not safe; never taken by itself."""
    (tmp_path / name).write_text(text)
    (asked,) = [finding for finding in model(tmp_path, ENGINE).findings if finding.rule == "M05"]
    assert f"probably org/model-7b ({name}:1)" in asked.message
    assert asked.fix is not None
    assert not asked.fix.safe


def test_two_candidates_are_only_named(tmp_path: Path) -> None:
    """Which of them it is, somebody has to say."""
    (tmp_path / "build.sh").write_text("hf download org/model-7b\nhf download org/draft-1b\n")
    (asked,) = [finding for finding in model(tmp_path, ENGINE).findings if finding.rule == "M05"]
    assert "named here: org/model-7b, org/draft-1b" in asked.message
    assert asked.fix is None
