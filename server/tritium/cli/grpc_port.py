"""The gRPC port as the settings of `tritium serve` describe it."""

import re
from collections.abc import Mapping
from pathlib import Path

from tritium.cli.observability import observed_grpc
from tritium.cli.options import ServeOptions, SettingsError
from tritium.compat.header_pattern import compile_pattern
from tritium.compat.restrictions import Api, Restriction, RestrictionError, parse
from tritium.core.serving import ServerState
from tritium.grpc.front import Front
from tritium.grpc.methods import methods
from tritium.wire.grpc import Effort, GrpcLimits, Keepalive
from tritium.wire.listener import Listener, listen_grpc, listen_grpcio
from tritium.wire.tls import Tls


def check(options: ServeOptions) -> None:
    """Read what may be wrong.

    Raises:
        SettingsError: a restriction or the pattern of headers cannot be read.
    """
    _restricted(options)
    _forwarded(options)


def _restricted(options: ServeOptions) -> Mapping[Api, Restriction]:
    try:
        return parse(options.grpc_restricted, what="protocol")
    except RestrictionError as error:
        raise SettingsError(str(error)) from None


def _forwarded(options: ServeOptions) -> re.Pattern[str] | None:
    try:
        return compile_pattern(options.grpc_forward_headers)
    except re.error as error:
        raise SettingsError(f"grpc_forward_headers is no regular expression: {error}") from None


def keepalive(options: ServeOptions) -> Keepalive:
    """Return who pings whom, and how old connections get."""
    return Keepalive(
        ping_s=options.grpc_keepalive_s,
        answer_s=options.grpc_keepalive_timeout_s,
        without_calls=options.grpc_keepalive_without_calls,
        pings_without_data=options.grpc_pings_without_data,
        client_ping_s=options.grpc_client_ping_s,
        strikes=options.grpc_ping_strikes,
        age_s=options.grpc_connection_age_s,
        age_grace_s=options.grpc_connection_grace_s,
    )


async def open_port(options: ServeOptions, server: ServerState) -> Listener:
    """Listen for gRPC.

    Raises:
        ListenError, TlsError: the port or a certificate cannot be used.
    """
    listen = listen_grpcio if options.grpc_transport == "grpcio" else listen_grpc
    front = Front(server, _forwarded(options), _restricted(options), Effort(options.grpc_compression))
    return await listen(
        observed_grpc(methods(front), options),
        host=options.grpc_host or options.host,
        port=options.grpc_port,
        limits=GrpcLimits(keepalive=keepalive(options)),
        tls=_tls(options),
        shared=options.grpc_port_shared,
    )


def _tls(options: ServeOptions) -> Tls | None:
    if not options.grpc_cert:
        return None
    authority = Path(options.grpc_client_ca) if options.grpc_client_ca else None
    return Tls(Path(options.grpc_cert), Path(options.grpc_key), authority)
