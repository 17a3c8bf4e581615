"""The port of KServe v2 over HTTP as the settings of `tritium serve` describe it."""

import re
from pathlib import Path

from tritium.cli.observability import observed_http
from tritium.cli.options import ServeOptions, SettingsError
from tritium.compat.header_pattern import compile_pattern
from tritium.compat.restrictions import RestrictionError, parse
from tritium.core.serving import ServerState
from tritium.http.front import Front, LoadReport
from tritium.http.routes import handler
from tritium.wire.http import HttpLimits
from tritium.wire.listener import Listener, listen_http
from tritium.wire.tls import Tls


def front(options: ServeOptions, server: ServerState, load_report: LoadReport | None = None) -> Front:
    """Return the rules of the port.

    Raises:
        SettingsError: a restriction or the pattern of headers cannot be read.
    """
    try:
        restricted = parse(options.http_restricted)
    except RestrictionError as error:
        raise SettingsError(str(error)) from None
    try:
        forwarded = compile_pattern(options.http_forward_headers)
    except re.error as error:
        raise SettingsError(f"http_forward_headers is no regular expression: {error}") from None
    return Front(server, options.http_body_bytes, forwarded, restricted, load_report)


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
        tls=_tls(options),
        shared=options.http_port_shared,
    )


def _tls(options: ServeOptions) -> Tls | None:
    if not options.http_cert:
        if options.http_key or options.http_client_ca:
            raise SettingsError("http_key and http_client_ca need http_cert, the certificate of the HTTP port")
        return None
    if not options.http_key:
        raise SettingsError("http_cert needs http_key, the private key of the certificate")
    authority = Path(options.http_client_ca) if options.http_client_ca else None
    return Tls(Path(options.http_cert), Path(options.http_key), authority)
