"""Where a model's files come from, when they are not on this machine: the Hugging Face hub, or an object store.

    folder beside model.json > path > Hugging Face cache > hub            (the tokenizer; vLLM fetches weights itself)
    s3://BUCKET/PATH, gs://..., as://ACCOUNT/...   ->   a local copy      (everything)

What is fetched from a store is kept as the copies of model repositories are, and downloaded again when it has changed.
"""

import os
from pathlib import Path
from typing import Any

from tritium.core.errors import InvalidArgument, Unavailable
from tritium.llm.model_files import ModelFiles, find_folder, hub_cache
from tritium.llm.tokenizer_files import PATTERNS
from tritium.repository.cloud.address import is_cloud
from tritium.repository.cloud.bucket import CloudError
from tritium.repository.cloud.repository import CloudRepository

_WANTED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "additional_chat_templates/*")
"""What the front needs of a hub repository: everything but the weights."""


class ModelSources:
    """Finds and fetches the files of models. Everything here blocks: call it from threads."""

    def __init__(self, cache: Path | None = None) -> None:
        """Keep copies from object stores in `cache`, or where those of model repositories are kept."""
        self._cache = cache
        # An open repository holds what was fetched through it, so that other servers do not delete it.
        self._stores: dict[str, CloudRepository] = {}

    def from_store(self, address: str) -> Path:
        """Return the local copy of a folder in an object store, as it is there now.

        Raises:
            InvalidArgument: the address names no folder.
            Unavailable: the store cannot be used; the message says why.
        """
        parent, _, name = address.rstrip("/").rpartition("/")
        if parent.endswith("/") or not name:
            raise InvalidArgument(f"{address} names no folder of a model", hint="write s3://BUCKET/PATH/TO/MODEL")
        store = self._stores.get(parent)
        if store is None:
            store = self._stores[parent] = CloudRepository(parent, self._cache)
        try:
            return store.folder(name)
        except CloudError as error:
            raise Unavailable(f"{address} cannot be fetched: {error.message}", hint=error.hint) from None

    def tokenizer_folder(self, files: ModelFiles, name: str) -> Path:
        """Return a folder with the tokenizer of a model, from wherever its name leads to.

        Raises:
            InvalidArgument: it is nowhere to be found; the hint says what to do.
            Unavailable: an object store cannot be used.
        """
        if is_cloud(name):
            return self.from_store(name)
        for pattern in PATTERNS:
            folder = find_folder(files, name, needs=pattern)
            if folder is not None:
                return folder
        return _download(name, files)

    def close(self) -> None:
        """Let other servers delete what was fetched from object stores."""
        for store in self._stores.values():
            store.close()


def offline() -> bool:
    """Tell whether huggingface_hub is told to fetch nothing, by its own variable and words."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _download(name: str, files: ModelFiles) -> Path:
    """Fetch what the front needs of a hub repository."""
    absent = (
        f"model.json names '{name}', which is no folder in {files.version_folder}, no path, and not in the Hugging "
        f"Face cache, {hub_cache()}"
    )
    if offline():
        raise InvalidArgument(
            f"{absent}; HF_HUB_OFFLINE is set, so nothing is fetched",
            hint=f"fetch it where there is a network (hf download {name}) and copy the cache, or put the folder beside "
            "model.json",
        )
    try:
        from huggingface_hub import errors, snapshot_download  # noqa: PLC0415  an extra, which comes with vLLM too
    except ImportError:
        raise InvalidArgument(
            absent, hint="pip install 'tritium[hub]' to fetch it from the Hugging Face hub, or use a local folder"
        ) from None
    revision = files.arguments.get("revision")
    asked: dict[str, Any] = {"revision": revision, "allow_patterns": _WANTED, "endpoint": os.environ.get("HF_ENDPOINT")}
    try:
        return Path(snapshot_download(name, **asked))
    except errors.GatedRepoError:
        why, hint = "its owner asks for consent first", f"accept the terms at https://hf.co/{name} and set HF_TOKEN"
    except errors.RevisionNotFoundError:
        why, hint = f"the hub has no revision '{revision}' of it", "check revision in model.json"
    except errors.RepositoryNotFoundError:
        why, hint = "the hub has no such repository, or a private one", "check the name; set HF_TOKEN for a private one"
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        why, hint = f"it could not be fetched: {error}", "check the network, or put the folder beside model.json"
    raise InvalidArgument(f"{absent}; {why}", hint=hint)
