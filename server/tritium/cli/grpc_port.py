"""The gRPC port as the settings of `tritium serve` describe it."""

from tritium.cli import port_rules
from tritium.cli.observability import observed_grpc
from tritium.cli.options import ServeOptions
from tritium.core.serving import ServerState
from tritium.grpc.front import Front
from tritium.grpc.methods import methods
from tritium.wire.grpc import Effort, GrpcLimits, Keepalive
from tritium.wire.listener import Listener, listen_grpc, listen_grpcio


def front(options: ServeOptions, server: ServerState) -> Front:
    """Return the rules of the port.

    Raises:
        SettingsError: a restriction or the pattern of headers cannot be read.
    """
    return Front(
        server,
        port_rules.forwarded("grpc_forward_headers", options.grpc_forward_headers),
        port_rules.restricted(options.grpc_restricted, what="protocol"),
        Effort(options.grpc_compression),
    )


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
    """Listen for gRPC, with TLS where a certificate is given.

    Raises:
        SettingsError: a setting cannot be used.
        ListenError, TlsError: the port or a certificate cannot be used.
    """
    listen = listen_grpcio if options.grpc_transport == "grpcio" else listen_grpc
    return await listen(
        observed_grpc(methods(front(options, server)), options),
        host=options.grpc_host or options.host,
        port=options.grpc_port,
        limits=GrpcLimits(keepalive=keepalive(options)),
        tls=port_rules.tls("grpc", options.grpc_cert, options.grpc_key, options.grpc_client_ca),
        shared=options.grpc_port_shared,
    )
