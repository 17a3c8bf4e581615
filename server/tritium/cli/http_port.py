"""The port of KServe v2 over HTTP as the settings of `tritium serve` describe it."""

from tritium.cli import port_rules
from tritium.cli.observability import observed_http
from tritium.cli.options import ServeOptions
from tritium.core.serving import ServerState
from tritium.http.front import Front, LoadReport
from tritium.http.routes import handler
from tritium.wire.http import HttpLimits
from tritium.wire.listener import Listener, listen_http


def front(options: ServeOptions, server: ServerState, load_report: LoadReport | None = None) -> Front:
    """Return the rules of the port.

    Raises:
        SettingsError: a restriction or the pattern of headers cannot be read.
    """
    return Front(
        server,
        options.http_body_bytes,
        port_rules.forwarded("http_forward_headers", options.http_forward_headers),
        port_rules.restricted(options.http_restricted, what="api"),
        load_report,
    )


def limits(options: ServeOptions) -> HttpLimits:
    """Return what a connection may cost."""
    return HttpLimits(
        body_bytes=options.http_upload_bytes,
        header_bytes=options.http_header_bytes,
        idle_s=options.http_idle_s,
        header_s=options.http_header_s,
        connections=options.http_connections,
    )


async def open_port(options: ServeOptions, server: ServerState, load_report: LoadReport | None = None) -> Listener:
    """Listen for HTTP, with TLS where a certificate is given.

    Raises:
        SettingsError: a setting cannot be used.
        ListenError, TlsError: the port or a certificate cannot be used.
    """
    return await listen_http(
        observed_http(handler(front(options, server, load_report)), options, "http", server.log_settings),
        host=options.http_host or options.host,
        port=options.http_port,
        limits=limits(options),
        tls=port_rules.tls("http", options.http_cert, options.http_key, options.http_client_ca),
        shared=options.http_port_shared,
    )
