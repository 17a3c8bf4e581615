"""The file of API keys: TOML that holds no key, only the SHA-256 of each.

[[keys]]
name = "team-a"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
models = ["llama-*", "tiny_chat"]     # absent: all
requests_per_minute = 600             # absent: any number
tokens_per_minute = 200000
concurrent = 16
"""

import hashlib
import secrets
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec

from tritium.core.errors import InvalidArgument

_PREFIX = "sk-"
_RANDOM_BYTES = 32

Limit = Annotated[int, msgspec.Meta(ge=1)]


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key, by what it hashes to; a limit of None is no limit."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[\w.@/-]+$", max_length=128)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    models: tuple[str, ...] | None = None
    """Names of models and adapters, `*` for any characters; None for all."""
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    """Prompt and answer together."""
    concurrent: Limit | None = None
    admin: bool = False
    """Whether the key may load and unload models and adapters."""

    def allows(self, model: str) -> bool:
        """Tell whether the key may use a model."""
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[KeyEntry, ...] = ()


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """Read a file of keys.

    Raises:
        InvalidArgument: it cannot be read, is no such TOML, or names or hashes are there twice.
    """
    try:
        entries = msgspec.toml.decode(path.read_bytes(), type=_KeyFile).keys
    except OSError as error:
        raise InvalidArgument(f"the keys file {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"the keys file {path}: {error}", hint="tritium key NAME prints an entry") from None
    for field in ("name", "sha256"):
        seen: set[str] = set()
        for entry in entries:
            value = getattr(entry, field)
            if value in seen:
                raise InvalidArgument(f"the keys file {path} has {field} {value!r} twice")
            seen.add(value)
    return entries


def check_entry(entry: KeyEntry) -> str:
    """Return what a file with this entry would be refused for; "" for nothing."""
    try:
        msgspec.convert(msgspec.to_builtins(entry), KeyEntry)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def new_key() -> str:
    """Return a key that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def key_hash(key: str | bytes) -> str:
    """Return what stands for a key at rest.

    Plain SHA-256: keys are random, so there is nothing that a slow hash would protect from guessing.
    """
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()
