"""What counts as a model, a version, and a change."""

import pytest

from tritium.compat.config.parse import parse_text
from tritium.compat.config.problem import Stage
from tritium.repository.candidate import Rules
from tritium.repository.inspection import read_candidate
from tritium.repository.layout import chosen_versions, fingerprint, is_version, model_folders, read_layout


@pytest.mark.parametrize(
    ("name", "counts"),
    [("1", True), ("0", True), ("10", True), ("01", False), ("v1", False), ("1a", False), ("-1", False), ("", False),
     ("²", False), ("1.0", False)],
)  # fmt: skip
def test_version_folders_are_plain_numbers(name, counts):
    """Numbers without leading zeros are versions, as in Triton."""
    assert is_version(name) is counts


def test_layout(tmp_path):
    """Versions are in order of number, hidden and special folders are none, files are listed."""
    for name in ("10", "2", "1", "configs", "warmup", ".hidden", "old", "__pycache__"):
        (tmp_path / name).mkdir()
    (tmp_path / "1" / "model.onnx").touch()
    (tmp_path / "10" / "model.py").touch()
    (tmp_path / "labels.txt").touch()
    layout = read_layout(tmp_path)
    assert layout.versions == ("1", "2", "10")
    assert layout.others == ("old",)
    assert layout.files == ("labels.txt",)
    assert layout.first_version_files == ("model.onnx",)


def test_model_folders(tmp_path):
    """Every folder of a repository is a model but hidden ones and lost+found; files are none."""
    for name in ("b", "a", ".git", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").touch()
    assert [folder.name for folder in model_folders(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", ["10"]),
        ("latest { num_versions: 2 }", ["2", "10"]),
        ("latest { num_versions: 9 }", ["1", "2", "10"]),
        ("latest { }", []),
        ("all { }", ["1", "2", "10"]),
        ("specific { versions: [ 10, 1, 7 ] }", ["1", "10"]),
    ],
)
def test_policy_chooses_versions(policy, versions):
    """The policy says which of the folders are loaded."""
    message = parse_text(f"version_policy {{ {policy} }}", "f").message.version_policy
    assert chosen_versions(message, ["1", "2", "10"]) == versions


def test_fingerprint_changes_with_files(tmp_path):
    """A file that comes, goes or changes shows; byte code that python writes beside a model does not."""
    (tmp_path / "1").mkdir()
    seen = [fingerprint(tmp_path)]
    (tmp_path / "1" / "model.py").write_text("one")
    seen.append(fingerprint(tmp_path))
    (tmp_path / "1" / "model.py").write_text("three")
    seen.append(fingerprint(tmp_path))
    (tmp_path / "1" / "__pycache__").mkdir()
    (tmp_path / "1" / "__pycache__" / "model.pyc").touch()
    assert fingerprint(tmp_path) == seen[-1]
    assert len(set(seen)) == 3


def test_folders_that_look_like_versions_are_named(tmp_path):
    """Beside a version, one with leading zeros or a model in a folder of another name is probably a mistake."""
    for folder in ("1", "003", "abc", "assets"):
        (tmp_path / folder).mkdir()
    for folder in ("1", "abc"):
        (tmp_path / folder / "model.onnx").write_bytes(b"")
    candidate = read_candidate(tmp_path, "m", Rules({"onnxruntime"}))
    assert [(one.message, one.stage) for one in candidate.problems] == [
        ("ignore version directory '003' which contains leading zeros in its directory name", Stage.WARNING),
        ("ignore version directory 'abc' which fails to convert to integral number", Stage.WARNING),
    ]
