"""A model repository in an object store: the names of its models, and the local copy of each."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tritium.repository.cloud.address import AddressError, parse_address
from tritium.repository.cloud.bucket import Bucket, CloudError
from tritium.repository.cloud.credentials import CredentialError, find_credentials
from tritium.repository.cloud.mirror import Mirror
from tritium.repository.layout import NO_MODELS

_CACHES = {"s3": "TRITON_AWS_MOUNT_DIRECTORY", "gs": "TRITON_GCS_MOUNT_DIRECTORY", "as": "TRITON_AZURE_MOUNT_DIRECTORY"}


class CloudRepository:
    """One repository; opened when it is first asked for something. Everything but `known` blocks."""

    def __init__(self, address: str, cache: Path | None = None) -> None:
        self.address = address
        self.known: Sequence[str] = ()
        """The names that were found last."""
        self._cache = cache
        self._opened: tuple[Bucket, Mirror] | None = None

    def names(self) -> Sequence[str]:
        """Return the names of the models that are there now.

        Raises:
            CloudError: the address, the credentials or the store cannot be used.
        """
        bucket, _ = self._open()
        self.known = [name for name in bucket.names() if not name.startswith(".") and name not in NO_MODELS]
        return self.known

    def folder(self, name: str) -> Path:
        """Return the local copy of a model as it is now; same errors as `names`."""
        return self._open()[1].folder(name)

    def prune(self, used: Collection[Path]) -> None:
        """Delete copies of what is not used any more."""
        if self._opened is not None:
            self._opened[1].prune(used)

    def close(self) -> None:
        """Let other servers delete what this one has used."""
        if self._opened is not None:
            self._opened[1].close()

    def _open(self) -> tuple[Bucket, Mirror]:
        if self._opened is None:
            try:
                address = parse_address(self.address)
                bucket = Bucket(address, find_credentials(address))
            except (AddressError, CredentialError) as error:
                raise CloudError(str(error)) from None
            cache = self._cache or default_cache(address.kind)
            self._opened = bucket, Mirror(bucket, f"{address.endpoint}/{address.text}", cache)
        return self._opened


def default_cache(kind: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for copies: as Triton's variable for the kind of store says, or in the user's cache."""
    if given := environment.get(_CACHES[kind]):
        return Path(given)
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/tmp"), ".cache")  # noqa: S108  no home
    return Path(home, "tritium", "repositories")
