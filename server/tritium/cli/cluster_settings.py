"""What a worker and a front have in common of their settings: who may join, and where members find each other."""

from pathlib import Path

from tritium.cli.options import ServeOptions, SettingsError
from tritium.cli.worker_options import WorkerOptions
from tritium.cluster.discovery.choose import open_discovery
from tritium.cluster.discovery.contract import Discovery
from tritium.cluster.events.place import NatsPlace, parse_events
from tritium.cluster.plane.security import PlaneSecurity, read_secret
from tritium.core.errors import InferenceError


def security_of(options: ServeOptions | WorkerOptions) -> PlaneSecurity:
    """Return what keeps strangers off, with every file read once.

    Raises:
        SettingsError: a file cannot be used, or only some of the certificates are given.
    """
    security = PlaneSecurity(
        secret=None,
        certificate=_path(options.cluster_cert),
        key=_path(options.cluster_cert_key),
        authority=_path(options.cluster_ca),
        open=isinstance(options, WorkerOptions) and options.cluster_open,
    )
    try:
        security.client_context()
        if options.cluster_secret:
            secret = read_secret(Path(options.cluster_secret))
            return PlaneSecurity(secret, security.certificate, security.key, security.authority, security.open)
    except InferenceError as error:
        raise SettingsError(_told(error)) from None
    return security


def discovery_of(options: ServeOptions | WorkerOptions) -> Discovery:
    """Return where members find each other.

    Raises:
        SettingsError: the address means nothing, or a package is missing.
    """
    try:
        return open_discovery(
            options.discovery,
            password=_path(options.discovery_password),
            authority=_path(options.discovery_ca),
            certificate=_path(options.discovery_cert),
            key=_path(options.discovery_cert_key),
        )
    except InferenceError as error:
        raise SettingsError(f"discovery: {_told(error)}") from None


def events_of(options: ServeOptions | WorkerOptions) -> NatsPlace | None:
    """Return where changes of caches go; None is by the workers' own connections.

    Raises:
        SettingsError: the address means nothing, or a package is missing.
    """
    try:
        return parse_events(options.events)
    except InferenceError as error:
        raise SettingsError(f"events: {_told(error)}") from None


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _told(error: InferenceError) -> str:
    return f"{error.message}\n  hint: {error.hint}" if error.hint else error.message
