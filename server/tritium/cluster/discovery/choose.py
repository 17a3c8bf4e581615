"""Which discovery an address means: `etcd://HOST:2379`, or `file:/FOLDER`."""

import dataclasses
from pathlib import Path

from tritium.cluster.discovery.contract import Discovery
from tritium.core.errors import InvalidArgument


def open_discovery(
    address: str, *, authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> Discovery:
    """Return the discovery of an address; the certificates are for etcd.

    Raises:
        InvalidArgument: there is no such kind, or what it needs is not installed.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "file" and rest:
        from tritium.cluster.discovery.folder import FolderDiscovery  # noqa: PLC0415  only what is used

        return FolderDiscovery(Path("/" + rest.lstrip("/")) if rest.startswith("/") else Path(rest))
    if scheme == "etcd":
        from tritium.cluster.discovery.etcd import EtcdDiscovery  # noqa: PLC0415  as above
        from tritium.cluster.discovery.etcd_client import parse_etcd  # noqa: PLC0415

        place = parse_etcd(address)
        return EtcdDiscovery(dataclasses.replace(place, authority=authority, certificate=certificate, key=key))
    hint = "write etcd://HOST:2379 or file:/FOLDER"
    if not address:
        raise InvalidArgument("it must be said where fronts and workers find one another", hint=hint)
    raise InvalidArgument(f"'{address}' is no discovery", hint=hint)
