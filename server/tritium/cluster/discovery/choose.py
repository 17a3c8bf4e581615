"""Which discovery an address means: `etcd://HOST:2379`, or `file:/FOLDER`."""

import dataclasses
from pathlib import Path

from tritium.cluster.discovery.contract import Discovery
from tritium.core.errors import InvalidArgument


def open_discovery(
    address: str,
    *,
    password: Path | None = None,
    authority: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Discovery:
    """Return the discovery of an address; the certificates, and the file with the user's password, are for etcd.

    Raises:
        InvalidArgument: there is no such kind, a file cannot be read, or what it needs is not installed.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "file" and rest:
        from tritium.cluster.discovery.folder import FolderDiscovery  # noqa: PLC0415  only what is used

        return FolderDiscovery(Path("/" + rest.lstrip("/")) if rest.startswith("/") else Path(rest))
    if scheme == "etcd":
        from tritium.cluster.discovery.etcd import EtcdDiscovery  # noqa: PLC0415  as above
        from tritium.cluster.discovery.etcd_client import parse_etcd  # noqa: PLC0415

        place = parse_etcd(address)
        if password is not None:
            place = dataclasses.replace(place, password=_read_password(password, place.user))
        return EtcdDiscovery(dataclasses.replace(place, authority=authority, certificate=certificate, key=key))
    hint = "write etcd://HOST:2379 or file:/FOLDER"
    if not address:
        raise InvalidArgument("it must be said where fronts and workers find one another", hint=hint)
    shown = address.rpartition("@")[2]  # without a password
    raise InvalidArgument(f"'{shown}' is no discovery", hint=hint)


def _read_password(path: Path, user: str) -> str:
    if not user:
        raise InvalidArgument("a password needs a user", hint="write etcd://USER@HOST:2379")
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidArgument(f"etcd's password cannot be read from {path}: {why}") from None
