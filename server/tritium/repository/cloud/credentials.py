"""What proves to an object store who asks: from a file by address, or from the environment, as Triton reads them.

TRITON_CLOUD_CREDENTIAL_PATH set -> the entry of the longest address that this one begins with
                         not set -> AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*
"""

import configparser
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritium.repository.cloud.address import CloudAddress

FILE_VARIABLE = "TRITON_CLOUD_CREDENTIAL_PATH"


class CredentialError(ValueError):
    """A credential file that cannot be read; says which and why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a store is opened with; empty fields are left to the store's own ways of finding them."""

    key_id: str = ""
    secret: str = ""
    session_token: str = ""
    region: str = ""
    google_file: str = ""
    account: str = ""
    managed_identity: bool = False

    def __repr__(self) -> str:
        return "Credentials(***)"


def find_credentials(address: CloudAddress, environment: Mapping[str, str] = os.environ) -> Credentials:
    """Return the credentials for an address.

    Raises:
        CredentialError: the file that should have them cannot be read.
    """
    file = environment.get(FILE_VARIABLE)
    return _from_file(address, Path(file), environment) if file else _from_environment(address, environment)


def _from_environment(address: CloudAddress, environment: Mapping[str, str]) -> Credentials:
    def value(name: str) -> str:
        return environment.get(name, "")

    if address.kind == "gs":
        return Credentials(google_file=value("GOOGLE_APPLICATION_CREDENTIALS"))
    if address.kind == "as":
        return Credentials(
            account=value("AZURE_STORAGE_ACCOUNT"),
            secret=value("AZURE_STORAGE_KEY"),
            managed_identity=value("AZURE_STORAGE_AUTH_TYPE").lower() == "managed_identity",
        )
    region = value("AWS_REGION") or value("AWS_DEFAULT_REGION")
    if value("AWS_ACCESS_KEY_ID") and not value("AWS_PROFILE"):
        return Credentials(
            value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"), value("AWS_SESSION_TOKEN"), region
        )
    return _profile(value("AWS_PROFILE") or "default", region, environment)


def _profile(name: str, region: str, environment: Mapping[str, str]) -> Credentials:
    """Read a profile of the AWS command line; one that is not there has nothing."""
    home = Path(environment.get("HOME", "/"))
    found = configparser.ConfigParser()
    found.read(
        [
            environment.get("AWS_CONFIG_FILE", home / ".aws" / "config"),
            environment.get("AWS_SHARED_CREDENTIALS_FILE", home / ".aws" / "credentials"),
        ]
    )
    merged: dict[str, str] = {}
    for section in (f"profile {name}", name):
        if found.has_section(section):
            merged |= dict(found.items(section))
    return Credentials(
        merged.get("aws_access_key_id", ""),
        merged.get("aws_secret_access_key", ""),
        merged.get("aws_session_token", ""),
        region or merged.get("region", ""),
    )


def _from_file(address: CloudAddress, file: Path, environment: Mapping[str, str]) -> Credentials:
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        raise CredentialError(f"{FILE_VARIABLE}: cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise CredentialError(f"{FILE_VARIABLE}: {file} is not JSON: {error}") from None
    entries = document.get(address.kind, {}) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise CredentialError(f'{FILE_VARIABLE}: {file} should be like {{"{address.kind}": {{"": {{...}}}}}}')
    fitting = [begin for begin in entries if f"{address.text}/".startswith(begin)]
    if not fitting:
        return Credentials()
    return _entry(address.kind, entries[max(fitting, key=len)], environment)


def _entry(kind: str, entry: Any, environment: Mapping[str, str]) -> Credentials:
    if kind == "gs":
        return Credentials(google_file=entry if isinstance(entry, str) else "")
    given = {key: str(value) for key, value in entry.items()} if isinstance(entry, dict) else {}
    if kind == "as":
        return Credentials(account=given.get("account_str", ""), secret=given.get("account_key", ""))
    if given.get("profile") and not given.get("key_id"):
        return _profile(given["profile"], given.get("region", ""), environment)
    return Credentials(
        given.get("key_id", ""), given.get("secret_key", ""), given.get("session_token", ""), given.get("region", "")
    )
