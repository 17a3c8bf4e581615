"""What an operator says of all language models, and what a model's own configuration says where he does not."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritium.compat.config.model import ModelConfig


@dataclass(frozen=True, slots=True)
class LanguageSettings:
    """What an operator sets for all language models.

    `engine` is auto, or the name of an engine; `fleets` the fleet setting of models by name. A model's configuration
    may say both in its parameters `engine` and `fleet`; a setting that names one wins over it. So it is with the
    `parsers` of models by name: `tool_parser` and `reasoning_parser`, each the name of a parser.
    """

    engine: str = "auto"
    fleets: Mapping[str, str] = field(default_factory=dict)
    parsers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    """Files of chat templates by model, which go before model.json's and the model's own."""
    trust_request_chat_template: bool = False
    """Whether a request may bring a chat template."""
    cloud_cache: Path | None = None
    """Folder for copies of models in object stores; where those of repositories are, if none."""
    timeout_s: float = 0.0
    """How long a request in tensors may take, to its last token; 0 for any time."""

    def engine_of(self, config: ModelConfig) -> str:
        """Choose the engine: the setting, else the configuration, else vLLM where it is installed.

        A model of TensorRT-LLM's layouts is run by TensorRT-LLM where that is installed.
        """
        if self.engine != "auto":
            return self.engine
        wanted = config.parameter("engine", "auto")
        if wanted != "auto":
            return wanted
        if config.proto.backend == "tensorrtllm" and importlib.util.find_spec("tensorrt_llm") is not None:
            return "tensorrtllm"
        return "vllm" if importlib.util.find_spec("vllm") is not None else "embedded"

    def fleet_of(self, config: ModelConfig) -> str:
        """Choose the fleet: the setting, else the configuration; empty for one worker."""
        return self.fleets.get(config.name) or config.parameter("fleet")

    def parsers_of(self, config: ModelConfig) -> Mapping[str, str]:
        """Return the parsers that the operator names for a model."""
        return self.parsers.get(config.name, {})


_ENGINE = "engine."
"""How the parameters of config.pbtxt begin that are arguments of the engine: `engine.max_model_len`."""


def engine_arguments(config: ModelConfig) -> dict[str, Any]:
    """Return the engine's arguments that config.pbtxt has among its parameters; they go before those of model.json.

    A value is JSON where it can be read as such (`2048`, `true`, `{"method": "ngram"}`), else the text itself.
    """
    return {
        key.removeprefix(_ENGINE): _value(config.parameter(key))
        for key in config.proto.parameters
        if key.startswith(_ENGINE)
    }


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
