"""What is said of backends that are not here."""

from pathlib import Path

import pytest

from tritium.compat.alternatives import ALTERNATIVES, PAGE, way_out, without_handler

DOCS = Path(__file__).parents[3] / "docs" / "backends.md"


@pytest.mark.parametrize(
    ("backend", "files", "said"),
    [
        ("tensorrt", (), 'serve the ONNX file it was built from: backend "onnxruntime", file 1/model.onnx'),
        ("tensorrt", ("model.plan", "model.onnx"), 'the model.onnx beside it is served with backend: "onnxruntime"'),
        ("dali", ("model.onnx",), "run the pipeline in a python model"),
        ("mine", ("config.pbtxt", "libtriton_mine.so"), "built for Triton as a shared library cannot be loaded"),
    ],
)
def test_a_way_out_is_named(backend: str, files: tuple[str, ...], said: str) -> None:
    """Why, what to do with the files that there are, and the page that says more."""
    assert said in way_out(backend, files)
    assert way_out(backend, files).endswith(f"({PAGE})")


def test_nothing_is_made_up_for_what_nobody_knows() -> None:
    """A name that is no backend of Triton's, without a library, is left to speak for itself."""
    assert way_out("mine", ("model.onnx",)) == ""


def test_the_page_has_every_backend() -> None:
    """The section that refusals point to exists, and names them all."""
    _, found, rest = DOCS.read_text().partition(f"## {PAGE.partition(', ')[2]}\n")
    section = rest.partition("\n## ")[0]
    assert found
    assert [name for name in ALTERNATIVES if f"`{name}`" not in section] == []


def test_platforms_that_had_a_handler() -> None:
    """A python model without a model.py is told what serves the platform it names; others have no platform to name."""
    assert 'backend: "openvino"' in without_handler("tensorflow_savedmodel")
    assert 'backend: "pytorch"' in without_handler("pytorch")
    assert without_handler("") == without_handler("onnxruntime_onnx") == ""
