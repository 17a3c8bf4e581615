import re
from pathlib import Path

import msgspec
import pytest

from tritium.llm.facade.trtllm_tensors import TEXT_INPUTS, TEXT_OUTPUTS, TOKEN_INPUTS, TOKEN_OUTPUTS
from tritium.llm.facade.vllm import _INPUTS, _OUTPUTS
from tritium.llm.text_models.mapping import OWN, SAMPLING
from tritium.openai.options import OpenAIOptions
from tritium.openai.routes import endpoints

DOCS = Path(__file__).parents[3] / "docs"


BODIES = {body for one in endpoints(OpenAIOptions(), str) for body in one.bodies}


@pytest.mark.parametrize("kind", sorted(BODIES, key=lambda kind: kind.__name__))
def test_every_request_field_is_documented(kind):
    """docs/openai.md names every field that a request of any route may have."""
    words = set(re.findall(r"`([a-z0-9_]+)`", (DOCS / "openai.md").read_text()))
    assert {field.name for field in msgspec.structs.fields(kind)} - words == set()


def test_every_route_is_documented():
    """docs/openai.md names every route with its method."""
    text = (DOCS / "openai.md").read_text()
    routes = [f"{one.method} {one.plain_path}" for one in endpoints(OpenAIOptions(), str)]
    assert [route for route in routes if f"`{route}`" not in text] == []


def test_every_tensor_is_documented():
    """docs/language-models.md and docs/triton-text.md name every tensor of the surfaces."""
    words = set(re.findall(r"`([a-z_]+)`", (DOCS / "language-models.md").read_text()))
    assert {name for name, _, _ in (*_INPUTS, *_OUTPUTS)} - words == set()
    words = set(re.findall(r"`([a-z_]+)`", (DOCS / "triton-text.md").read_text()))
    tables = (_INPUTS, _OUTPUTS, TEXT_INPUTS, TEXT_OUTPUTS, TOKEN_INPUTS, TOKEN_OUTPUTS)
    assert {name for table in tables for name, _, _ in table} - words == set()


def test_every_parameter_of_text_models_is_documented():
    """docs/language-models.md names every parameter that offers a tensor model."""
    words = set(re.findall(r"`(?:openai)?\.([A-Za-z_]+)[.`]", (DOCS / "language-models.md").read_text()))
    assert {*SAMPLING, *OWN, "set"} - words == set()
