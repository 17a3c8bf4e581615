"""Language models by the name a client uses: a model's own, an alias of it, or that of a LoRA adapter of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tritium.compat.config import messages
from tritium.core.catalog import Catalog, LoadParameters
from tritium.core.errors import InferenceError, NotFound, StillLoading, Unavailable
from tritium.core.model import State
from tritium.llm.facade.alias import Alias
from tritium.llm.model import LanguageModel
from tritium.llm.text_models.book import TextModels
from tritium.llm.text_models.offered import OfferedModel


@dataclass(frozen=True, slots=True)
class Served:
    """One name that language requests may use, the model behind it, and the adapter it stands for ("" for none)."""

    name: str
    model: LanguageModel
    lora: str = ""


class OfferedAsText(NotFound):
    """The name is that of a tensor model that is offered as a language model; `offered` answers in its place."""

    def __init__(self, name: str, offered: OfferedModel) -> None:
        super().__init__(
            f"The model `{name}` is served by /v1/completions and /v1/chat/completions alone.",
            hint="it is a tensor model: it has text, and no tokens",
        )
        self.offered = offered


class LanguageModels(Protocol):
    """The language models of a server."""

    @property
    def starting(self) -> bool:
        """Tell whether the models that the server begins with are still being loaded."""
        ...

    def find(self, name: str) -> Served:
        """Return what a name stands for.

        Raises:
            NotFound: there is no such language model.
            OfferedAsText: it is a tensor model that is offered as one.
            Unavailable: there is one, but it cannot take requests now.
        """
        ...

    def offered(self) -> Sequence[OfferedModel]:
        """Return the tensor models that are offered as language models."""
        ...

    def all(self) -> Sequence[Served]:
        """Return every name, models before their adapters."""
        ...

    async def load(self, name: str) -> None:
        """Load or reload a model from its repository.

        Raises:
            InferenceError: it cannot be loaded, or the server does not load models on demand.
        """
        ...

    async def unload(self, name: str) -> None:
        """Unload a model.

        Raises:
            InferenceError: there is no such model, or the server does not unload models on demand.
        """
        ...


class CatalogModels:
    """The language models among all models of a catalog; the newest ready version of each."""

    def __init__(self, catalog: Catalog, text_models: TextModels | None = None) -> None:
        self._catalog = catalog
        self._text_models = text_models or TextModels()

    @property
    def starting(self) -> bool:
        """Tell whether the models that the server begins with are still being loaded."""
        return self._catalog.starting

    def find(self, name: str) -> Served:
        """Return what a name stands for."""
        try:
            model = self._catalog.model(name)
        except StillLoading:
            raise Unavailable(f"The model `{name}` is being loaded.", hint="try again in a while") from None
        except NotFound:
            served = self._adapter(name)
            if served is None and self.starting:
                # What has not been read yet may be that of an alias, an adapter, or a model further on.
                raise Unavailable("The server is still loading its models.", hint="try again in a while") from None
            if served is None:
                raise self._missing(name) from None
            return served
        if not isinstance(model, LanguageModel | Alias):
            if (offered := self._text_models.of(model)) is not None:
                raise OfferedAsText(name, offered)
            raise NotFound(
                f"The model `{name}` is not a language model.", hint="tensor models are served by the KServe routes"
            )
        return Served(name, model.target)

    def offered(self) -> Sequence[OfferedModel]:
        """Return the tensor models that are offered as language models; the newest version of each."""
        found: dict[str, OfferedModel] = {}
        for model in self._catalog.models():
            if (offered := self._text_models.of(model)) is not None:
                found[model.name] = offered
        return list(found.values())

    def all(self) -> Sequence[Served]:
        """Return every name, models before their adapters."""
        newest: dict[str, LanguageModel] = {}
        for model in self._catalog.models():
            if isinstance(model, LanguageModel | Alias) and model.name not in newest:
                try:
                    chosen = self._catalog.model(model.name)
                except InferenceError:
                    continue
                if isinstance(chosen, LanguageModel | Alias):
                    newest[model.name] = chosen.target
        models = [Served(name, model) for name, model in newest.items()]
        own = [model for name, model in newest.items() if name == model.name]
        return models + [Served(lora, model, lora) for model in own for lora in model.loras]

    async def load(self, name: str) -> None:
        """Load or reload a model from its repository."""
        await self._catalog.load(name, LoadParameters())

    async def unload(self, name: str) -> None:
        """Unload a model."""
        await self._catalog.unload(name)

    def _missing(self, name: str) -> NotFound:
        """Return the error for a name of no model that is loaded."""
        failed = (one for one in self._catalog.index() if one.name == name and one.state is State.UNAVAILABLE)
        reason = next((one.reason for one in failed if one.reason and one.reason != messages.UNLOADED), "")
        return NotFound(f"The model `{name}` could not be loaded.", hint=reason) if reason else unknown_model(name)

    def _adapter(self, name: str) -> Served | None:
        return next((served for served in self.all() if served.lora and served.name == name), None)


def unknown_model(name: str) -> NotFound:
    """Return the error for a name that stands for nothing."""
    return NotFound(f"The model `{name}` does not exist.", hint="GET /v1/models lists the models")
