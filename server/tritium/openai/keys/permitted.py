"""The language models that one key may use: the others do not exist for it."""

from collections.abc import Sequence

from tritium.llm.models import LanguageModels, Served, unknown_model
from tritium.llm.text_models.offered import OfferedModel
from tritium.openai.keys.entry import KeyEntry


class PermittedModels:
    """A view of the server's language models."""

    def __init__(self, models: LanguageModels, entry: KeyEntry) -> None:
        self._models = models
        self._entry = entry

    @property
    def starting(self) -> bool:
        """Tell whether the models that the server begins with are still being loaded."""
        return self._models.starting

    def find(self, name: str) -> Served:
        """Return what a name stands for.

        Raises:
            NotFound: there is no such model, or not for this key; which of the two is not told.
            OfferedAsText: it is a tensor model that is offered as one.
            Unavailable: there is one, but it cannot take requests now.
        """
        if not self._entry.allows(name):
            raise unknown_model(name)
        return self._models.find(name)

    def offered(self) -> Sequence[OfferedModel]:
        """Return the tensor models offered as language models that the key may use."""
        return [offered for offered in self._models.offered() if self._entry.allows(offered.name)]

    def all(self) -> Sequence[Served]:
        """Return every name that the key may use."""
        return [served for served in self._models.all() if self._entry.allows(served.name)]

    async def load(self, name: str) -> None:
        """Load or reload a model."""
        if not self._entry.allows(name):
            raise unknown_model(name)
        await self._models.load(name)

    async def unload(self, name: str) -> None:
        """Unload a model."""
        if not self._entry.allows(name):
            raise unknown_model(name)
        await self._models.unload(name)
