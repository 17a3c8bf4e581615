"""The tensor models of a server that are offered as language models: entered as they load, gone as they go.

read(source)    before a model is loaded: its parameters, template and tokenizer, or why they cannot be
the result      once it is loaded: enters it
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from tritium.backends.contract import ModelSource
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.core.errors import InvalidArgument
from tritium.core.model import Model
from tritium.llm.template import ChatTemplate
from tritium.llm.text_models.mapping import PREFIX, read_mapping
from tritium.llm.text_models.offered import Offer, OfferedModel
from tritium.llm.tokenizer import Tokenizer


def check_offer(config: ModelConfig, folder: Path, version: str) -> Sequence[Problem]:
    """Find what is wrong with how a model is offered, as far as its files tell its tensors; a `loader.Check`."""
    if not config.outputs:
        return ()
    try:
        TextModels().read(ModelSource(config, folder, version))
    except InvalidArgument as error:
        return (problem_of(str(folder / "config.pbtxt"), error.message, error.hint, Stage.LOAD),)
    return ()


class TextModels:
    """Which models are offered, and how."""

    def __init__(self) -> None:
        self._offers: WeakKeyDictionary[Model, Offer] = WeakKeyDictionary()

    def read(self, source: ModelSource) -> Callable[[Model], None] | None:
        """Return what enters a model once it is loaded; None for one that is not offered.

        Raises:
            InvalidArgument: its parameters, its template or its tokenizer are wrong.
        """
        mapping = read_mapping(source.config, source.folder)
        if mapping is None:
            return None
        template = None
        if mapping.template is not None:
            try:
                template = ChatTemplate(mapping.template.read_text(encoding="utf-8"), {})
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidArgument(f"parameter '{PREFIX}chat_template': {mapping.template}: {error}") from None
        offer = Offer(mapping, template, None if mapping.tokenizer is None else Tokenizer.load(mapping.tokenizer))

        def enter(model: Model) -> None:
            self._offers[model] = offer

        return enter

    def of(self, model: Model) -> OfferedModel | None:
        """Return how a model is offered, if it is."""
        offer = self._offers.get(model)
        return None if offer is None else OfferedModel(model, offer)
