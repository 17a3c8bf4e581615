"""The objects under an address, listed and fetched through obstore; what goes wrong is said in words.

obstore speaks to S3, Google Cloud Storage and Azure alike, retries by itself, and blocks: call it from threads.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tritium.repository.cloud.address import CloudAddress
from tritium.repository.cloud.credentials import Credentials

PIECE_BYTES = 16 << 20
"""What is asked for at a time, so that a large file needs no long timeout."""
_CLIENT = {"timeout": "60s", "connect_timeout": "5s", "http1_only": True}
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class CloudError(Exception):
    """An object store that cannot be used; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class CloudObject:
    """One object: `path` below the repository; `tag` differs whenever its content does."""

    path: str
    size: int
    tag: str


class Bucket:
    """The objects under one address."""

    def __init__(self, address: CloudAddress, credentials: Credentials) -> None:
        self._address = address
        self._store = _open(address, credentials)

    def names(self) -> list[str]:
        """Return the folders directly under the address.

        Raises:
            CloudError: the store cannot be reached, or there is nothing.
        """
        import obstore  # noqa: PLC0415  (an extra; what uses it has opened a store)

        with _explained(self._address):
            found = obstore.list_with_delimiter(self._store, prefix=self._address.prefix or None)
        folders = [path.rsplit("/", 1)[-1] for path in found["common_prefixes"]]
        if not folders and not found["objects"]:
            raise CloudError("nothing lies there", "check the bucket and the path")
        return sorted(folders)

    def objects(self, name: str) -> list[CloudObject]:
        """Return everything in one of the folders, by path.

        Raises:
            CloudError: the store cannot be reached.
        """
        import obstore  # noqa: PLC0415  (likewise)

        root = f"{self._address.prefix}/" if self._address.prefix else ""
        with _explained(self._address):
            listed = [one for batch in obstore.list(self._store, prefix=f"{root}{name}") for one in batch]
        return sorted(
            (
                CloudObject(
                    one["path"].removeprefix(root), one["size"], str(one["e_tag"] or one["last_modified"].isoformat())
                )
                for one in listed
            ),
            key=lambda one: one.path,
        )

    def fetch(self, one: CloudObject, target: Path) -> None:
        """Write an object to a file.

        Raises:
            CloudError: the store cannot be reached, or the object is not what was listed any more.
        """
        import obstore  # noqa: PLC0415  (likewise)

        path = f"{self._address.prefix}/{one.path}" if self._address.prefix else one.path
        with _explained(self._address), target.open("wb") as file:
            for start in range(0, one.size, PIECE_BYTES):
                end = min(start + PIECE_BYTES, one.size)
                file.write(obstore.get_range(self._store, path, start=start, end=end))
        if target.stat().st_size != one.size:
            raise CloudError(f"{one.path} changed while it was read", "it is read again")


def _open(address: CloudAddress, credentials: Credentials, environment: Mapping[str, str] = os.environ) -> Any:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  (an extra)
    except ImportError:
        raise CloudError(
            "repositories in object stores need the package obstore",
            f"{sys.executable} -m pip install 'tritium[cloud]'",
        ) from None
    client: Any = {**_CLIENT, "allow_http": True}
    config: dict[str, Any]
    with _explained(address):
        if address.kind == "s3":
            config = {
                "access_key_id": credentials.key_id,
                "secret_access_key": credentials.secret,
                "session_token": credentials.session_token,
                "region": credentials.region or "us-east-1",
                "endpoint": address.endpoint,
            }
            return S3Store(address.bucket, config=_given(config), client_options=client, retry_config=_retries())
        if address.kind == "gs":
            config = {
                "application_credentials": credentials.google_file,
                "base_url": environment.get("STORAGE_EMULATOR_HOST", ""),
                "skip_signature": bool(environment.get("STORAGE_EMULATOR_HOST")),
            }
            return GCSStore(address.bucket, config=_given(config), client_options=client, retry_config=_retries())
        config = {
            "account_name": credentials.account or address.account,
            "account_key": credentials.secret,
            "endpoint": environment.get("AZURE_STORAGE_ENDPOINT", ""),
        }
        return AzureStore(address.bucket, config=_given(config), client_options=client, retry_config=_retries())


def _given(config: Mapping[str, Any]) -> Any:
    return {key: value for key, value in config.items() if value}


def _retries() -> Any:
    return dict(_RETRIES)


@contextmanager
def _explained(address: CloudAddress) -> Iterator[None]:
    """Turn the store's errors into ours."""
    from obstore import exceptions  # noqa: PLC0415  (an extra; what uses it has opened a store)

    try:
        yield
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise CloudError("access denied", _WHERE[address.kind]) from error
    except exceptions.NotFoundError as error:
        raise CloudError("no such bucket or object", f"is '{address.bucket}' spelt right?") from error
    except (exceptions.BaseError, ValueError, OSError) as error:
        raise CloudError(*_reason(address, str(error))) from error


_WHERE = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or TRITON_CLOUD_CREDENTIAL_PATH",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or TRITON_CLOUD_CREDENTIAL_PATH",
    "as": "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or TRITON_CLOUD_CREDENTIAL_PATH",
}


def _reason(address: CloudAddress, text: str) -> tuple[str, str]:
    """Say the reason of an error that has no class of its own, and what to do."""
    if "401 Unauthorized" in text or "403 Forbidden" in text:
        return "access denied", _WHERE[address.kind]
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return f"there is no bucket '{address.bucket}'", "is it spelt right, and in this region?"
    if "metadata" in text or "169.254.169.254" in text or "credential" in text.lower():
        return "no credentials were found", _WHERE[address.kind]
    if "timed out" in text or "TimedOut" in text:
        return "the store did not answer in time", "is it reachable from here?"
    if "error sending request" in text:
        where = address.endpoint or "the store"
        return f"cannot connect to {where}", "is the address right, and the store reachable from here?"
    # obstore adds how the error came about after an empty line.
    return text.strip().partition("\n")[0] or "unknown reason", ""
