"""What a worker says of itself and of its model, so that a front needs nothing but that and the files it names.

Instance   one run of one worker: who, where, which role
ModelCard   what must be equal in all workers of a model: tokenizer, template, limits, block size
CardFile     a file of the model, by its checksum
"""

import hashlib

import msgspec

from tritium.backends.engine import EngineInfo, Role


class CardFile(msgspec.Struct, frozen=True):
    """A file that a front needs; `name` may have folders in it."""

    name: str
    size_bytes: int
    sha256: str


class ModelCard(msgspec.Struct, frozen=True):
    """A model as its workers serve it.

    `settings` is what of model.json concerns the front, as JSON text; `config` the text of config.pbtxt, where there
    is one.
    """

    model: str
    info: EngineInfo
    files: tuple[CardFile, ...] = ()
    settings: str = "{}"
    config: str = ""

    @property
    def checksum(self) -> str:
        """Return the same for cards between which a request may move."""
        return hashlib.sha256(msgspec.json.encode(_equal(self))).hexdigest()

    def differs(self, other: "ModelCard") -> str:
        """Say how another card of the model is different, in a way that matters; empty where it is not."""
        told = []
        for (what, ours), (_, theirs) in zip(_equal(self), _equal(other), strict=True):
            if ours != theirs:
                told.append(f"{what}: {_shown(theirs)} instead of {_shown(ours)}")
        return "; ".join(told)


class Instance(msgspec.Struct, frozen=True):
    """One run of one worker, as discovery carries it. `started_s` is seconds since 1970 by the worker's clock."""

    namespace: str
    worker: str
    run: str
    role: Role
    address: str
    version: int
    started_s: float
    card: ModelCard
    role_number: int = 0
    """How often the role has changed in this run."""

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self.card.model

    @property
    def key(self) -> str:
        """Return what tells it from every other, in one namespace and in all."""
        return f"{self.namespace}/{self.worker}/{self.run}"


def _equal(card: ModelCard) -> list[tuple[str, object]]:
    """Return what has to be equal, by what it is called."""
    info = card.info
    return [
        ("context_tokens", info.context_tokens),
        ("block_tokens", info.block_tokens),
        ("tasks", sorted(info.tasks)),
        ("modalities", sorted(info.modalities)),
        ("files", sorted((file.name, file.sha256[:12]) for file in card.files)),
        ("settings", card.settings),
        ("config", card.config),
    ]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
