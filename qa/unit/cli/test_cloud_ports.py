"""Vertex AI's model, and the ports that SageMaker leaves to others."""

from dataclasses import dataclass

import pytest

from tritium.cli.cloud_ports import missing_model
from tritium.cli.options import ServeOptions, SettingsError
from tritium.cli.ports import check_ports
from tritium.cli.tritonserver import read
from tritium.core.catalog import IndexEntry


@dataclass
class Loaded:
    """A catalog of ready models."""

    names: tuple[str, ...]

    def index(self, *, ready_only=False):
        return [IndexEntry(name, "1") for name in self.names]


@pytest.mark.parametrize(
    ("model", "loaded", "words"),
    [
        ("", ("a",), ""),
        ("", ("a", "b"), "Expect the model repository contains only a single model if default model is not specified"),
        ("", (), "Expect the model repository contains only a single model if default model is not specified"),
        ("a", ("a", "b"), ""),
        ("c", ("a", "b"), "Expect the default model 'c' is loaded"),
    ],
)
def test_vertex_ai_has_to_have_its_model(model, loaded, words):
    """The one that is named, or the only one."""
    assert missing_model(ServeOptions(vertex_ai=True, vertex_ai_model=model), Loaded(loaded)) == words
    assert missing_model(ServeOptions(vertex_ai_model=model), Loaded(loaded)) == ""


def test_sagemaker_leaves_others_some_ports():
    """A port outside the range is refused in Triton's words; its own may be anywhere."""
    inside = ServeOptions(sagemaker=True, sagemaker_safe_ports="8000-9000")
    check_ports(inside)
    with pytest.raises(SettingsError, match=r"cannot listen to HTTP requests at port 8000, allowed .* \[8001, 9000\]"):
        check_ports(ServeOptions(sagemaker=True, sagemaker_safe_ports="8001-9000"))
    with pytest.raises(SettingsError, match="takes LOWEST-HIGHEST, not '8000'"):
        check_ports(ServeOptions(sagemaker=True, sagemaker_safe_ports="8000"))


def test_a_vertex_ai_container_configures_the_server(monkeypatch):
    """Its variables set what no flag does."""
    for name, value in {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": "5234", "AIP_STORAGE_URI": "models"}.items():
        monkeypatch.setenv(name, value)
    options, _ = read([])
    assert (options.vertex_ai, options.http, options.grpc) == (True, False, False)
    assert (options.vertex_ai_port, options.repositories) == (5234, ("models",))
    options, _ = read(["--allow-http=true", "--model-repository=other", "--vertex-ai-port=1"])
    assert (options.http, options.repositories, options.vertex_ai_port) == (True, ("other",), 1)
