"""The setting `kv_tiers` of model.json: `host=4GiB,disk=100GiB:/var/kv,object=1TiB:s3://bucket/prefix,writing=back`.

Sizes are of one worker process each. A disk tier takes directories separated by colons; every worker process makes a
folder of its own in each. Finer settings stand beside them by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tritium.core.errors import InvalidArgument
from tritium.kv.settings import (
    DiskSettings,
    HostSettings,
    ObjectSettings,
    PeerSettings,
    StoreSettings,
    Writing,
    parse_bytes,
)

SETTING = "kv_tiers"
CONNECTOR = "TieredConnector"
MODULE = "tritium.backends.vllm.tiers.connector"


@dataclass(slots=True)
class Tiers:
    """What an operator set."""

    host_bytes: int = 0
    disk_bytes: int = 0
    directories: list[Path] = field(default_factory=list)
    object_bytes: int = 0
    url: str = ""
    always: bool = False
    """Fetch whatever is held, also where computing it is expected to be faster."""
    disk: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)


def _flag(text: str) -> bool:
    if text not in {"0", "1"}:
        raise InvalidArgument(f"'{text}' is neither 0 nor 1")
    return text == "1"


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise InvalidArgument("a share is above 0 and at most 1")
    return share


def _places(text: str) -> tuple[str, ...]:
    return (text,)


def _secret(text: str) -> bytes:
    try:
        return Path(text).read_bytes().strip()
    except OSError as fault:
        raise InvalidArgument(f"the secret of peers cannot be read: {fault.strerror}") from None


_FETCH = ("advised", "always")

_FINER: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "writing": ("store", "writing", Writing),
    "tenant_share": ("store", "tenant_share", _share),
    "load_in_flight": ("store", "load_bytes_in_flight", parse_bytes),
    "save_in_flight": ("store", "save_bytes_in_flight", parse_bytes),
    "disk_direct": ("disk", "direct", _flag),
    "disk_min_uses": ("disk", "min_uses", int),
    "disk_mover": ("disk", "mover", str),
    "object_min_uses": ("objects", "min_uses", int),
    "object_timeout_s": ("objects", "timeout_s", float),
    "object_endpoint": ("objects", "endpoint", str),
    "peers": ("peers", "at", _places),
    "peers_listen": ("peers", "listen", str),
    "peers_secret": ("peers", "secret", _secret),
    "peers_path": ("peers", "path", str),
    "peers_timeout_s": ("peers", "timeout_s", float),
}


def read_tiers(text: object) -> Tiers:
    """Read the setting.

    Raises:
        InvalidArgument: naming the part that is wrong.
    """
    if not isinstance(text, str) or not text:
        raise InvalidArgument(f"{SETTING} must be a text", 'write "kv_tiers": "host=4GiB,disk=100GiB:/var/kv"')
    tiers = Tiers()
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            _read_part(tiers, name, value)
        except (ValueError, InvalidArgument) as error:
            raise InvalidArgument(f"{SETTING}: '{part.strip()}': {error}") from error
    if not (tiers.host_bytes or tiers.disk_bytes or tiers.object_bytes):
        raise InvalidArgument(f"{SETTING} names no tier", "host=4GiB is the least")
    try:
        PeerSettings(**tiers.peers)
    except InvalidArgument as error:
        raise InvalidArgument(f"{SETTING}: {error}", error.hint) from error
    return tiers


def _read_part(tiers: Tiers, name: str, value: str) -> None:
    size, _, where = value.partition(":")
    match name:
        case "host":
            tiers.host_bytes = parse_bytes(value)
        case "disk":
            tiers.disk_bytes = parse_bytes(size)
            tiers.directories = [Path(folder) for folder in where.split(":") if folder]
            if not tiers.directories or not all(folder.is_absolute() for folder in tiers.directories):
                raise InvalidArgument("a disk tier needs absolute directories, such as disk=100GiB:/var/kv")
        case "object":
            tiers.object_bytes, tiers.url = parse_bytes(size), where
            if not where:
                raise InvalidArgument("an object tier needs a place, such as object=1TiB:s3://bucket/prefix")
        case "fetch":
            if value not in _FETCH:
                raise InvalidArgument(f"'{value}' is neither {' nor '.join(_FETCH)}")
            tiers.always = value == "always"
        case _ if name in _FINER:
            group, finer, read = _FINER[name]
            getattr(tiers, group)[finer] = read(value)
        case _:
            known = ["host", "disk", "object", "fetch", *_FINER]
            close = get_close_matches(name, known, n=1)
            raise InvalidArgument(f"there is no '{name}'" + (f"; did you mean {close[0]}?" if close else ""))


def connector_config(text: object, scope: str, number: int) -> dict[str, Any]:
    """Return vLLM's description of the connector, once the setting is found to be in order.

    Folders lie below `scope`; `number` is that of the worker on this machine.

    Raises:
        InvalidArgument: naming the part that is wrong.
    """
    read_tiers(text)
    return {
        "kv_connector": CONNECTOR,
        "kv_connector_module_path": MODULE,
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"tiers": text, "scope": scope, "number": number},
    }


def beside(first: dict[str, Any], tiers: dict[str, Any]) -> dict[str, Any]:
    """Return one connector made of two: what `first` can fetch comes from there, the rest from the tiers."""
    return {
        "kv_connector": "MultiConnector",
        "kv_role": first["kv_role"],
        "kv_load_failure_policy": tiers["kv_load_failure_policy"],
        "kv_connector_extra_config": {"connectors": [first, tiers]},
    }


def store_settings(tiers: Tiers, block_bytes: int, seat: str, shape: bytes = b"") -> StoreSettings:
    """Return what the store of one worker process is opened with.

    `seat` names its own folders, `shape` is what the keys begin with that it asks peers for.
    """
    peers = PeerSettings(**tiers.peers, prefix=shape) if tiers.peers else None
    host = HostSettings(tiers.host_bytes) if tiers.host_bytes else None
    disk = objects = None
    if tiers.disk_bytes:
        folders = tuple(folder / seat for folder in tiers.directories)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        disk = DiskSettings(tiers.disk_bytes, folders, **tiers.disk)
    if tiers.object_bytes:
        objects = ObjectSettings(tiers.object_bytes, tiers.url, **tiers.objects)
    return StoreSettings(block_bytes, host=host, disk=disk, objects=objects, peers=peers, **tiers.store)
