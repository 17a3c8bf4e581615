"""Addresses of repositories in object stores, in all the forms that Triton takes.

s3://bucket/path      s3://host:port/bucket/path      s3://https://host:port/bucket/path
gs://bucket/path      as://account/container/path

Source: core/src/filesystem/implementations of Triton's core.
"""

import re
from dataclasses import dataclass

_SCHEME = re.compile(r"(s3|gs|as)://", re.IGNORECASE)
_AZURE_DOMAIN = ".blob.core.windows.net"


class AddressError(ValueError):
    """An address that names no bucket or container; says what one looks like."""


@dataclass(frozen=True, slots=True)
class CloudAddress:
    """`prefix` has no slashes at its ends; `endpoint` and `account` are empty where the kind has none."""

    text: str
    kind: str
    bucket: str
    prefix: str
    endpoint: str = ""
    account: str = ""


def is_cloud(text: str) -> bool:
    """Tell whether an address is one of an object store."""
    return _SCHEME.match(text) is not None


def parse_address(text: str) -> CloudAddress:
    """Take an address apart.

    Raises:
        AddressError: it has no bucket.
    """
    kind, _, rest = text.partition("://")
    kind = kind.lower()
    endpoint = account = ""
    if kind == "s3":
        endpoint, rest = _endpoint(rest)
    elif kind == "as":
        account, _, rest = rest.partition("/")
        account = account.removesuffix(_AZURE_DOMAIN)
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not bucket or (kind == "as" and not account):
        form = {"s3": "s3://BUCKET/PATH", "gs": "gs://BUCKET/PATH", "as": "as://ACCOUNT/CONTAINER/PATH"}[kind]
        raise AddressError(f"{text} names no {'container' if kind == 'as' else 'bucket'}; write {form}")
    prefix = "/".join(part for part in prefix.split("/") if part)
    return CloudAddress(text.rstrip("/"), kind, bucket, prefix, endpoint, account)


def _endpoint(rest: str) -> tuple[str, str]:
    """Split off a server of one's own: with a scheme before it, or with a port; without a scheme it speaks HTTP."""
    given = re.match(r"(https?)://([^/]+)/?", rest)
    if given:
        return f"{given[1]}://{given[2]}", rest[given.end() :]
    given = re.match(r"([0-9A-Za-z.\-]+:\d+)/?", rest)
    return (f"http://{given[1]}", rest[given.end() :]) if given else ("", rest)
