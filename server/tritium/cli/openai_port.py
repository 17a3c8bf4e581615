"""The port of the OpenAI API as the settings of `tritium serve` describe it."""

import time
from collections.abc import Callable
from pathlib import Path

from tritium.cli import port_rules
from tritium.cli.observability import observed_http
from tritium.cli.options import ServeOptions, SettingsError
from tritium.core.errors import InvalidArgument
from tritium.llm.models import LanguageModels
from tritium.openai.errors import wire_refusal
from tritium.openai.front import openai_handler
from tritium.openai.keys.ring import KeyRing
from tritium.openai.media.policy import MediaPolicy, is_entry
from tritium.openai.options import OpenAIOptions
from tritium.wire.http import HttpLimits
from tritium.wire.listener import Listener, listen_http


def rules(options: ServeOptions) -> OpenAIOptions:
    """Return the rules of the port.

    Raises:
        SettingsError: a host of media is none.
    """
    for entry in options.allowed_media_host:
        if not is_entry(entry):
            raise SettingsError(
                f"allowed_media_host takes NAME, *.DOMAIN, * or addresses such as 10.2.0.0/16, not '{entry}'"
            )
    return OpenAIOptions(
        max_inflight=options.openai_inflight,
        timeout_s=options.openai_timeout_s,
        cors_origins=options.openai_cors_origin,
        stored_responses=options.openai_responses,
        ignore_unknown=options.openai_unknown_fields == "ignore",
        stored_bytes=options.openai_responses_bytes,
        media=MediaPolicy(options.allowed_media_host, options.openai_media_bytes, timeout_s=options.openai_media_s),
    )


def key_ring(options: ServeOptions) -> KeyRing:
    """Return the API keys that the port takes.

    Raises:
        SettingsError: the file of keys cannot be used.
    """
    file = Path(options.openai_keys) if options.openai_keys else None
    try:
        return KeyRing(options.openai_key, file, time.monotonic)
    except InvalidArgument as error:
        raise SettingsError(f"openai_keys: {error.message}") from None


async def open_port(
    options: ServeOptions, models: LanguageModels, metrics: Callable[[], str], keys: KeyRing
) -> Listener:
    """Listen for OpenAI's clients, with TLS where a certificate is given.

    Raises:
        SettingsError: a setting cannot be used.
        ListenError, TlsError: the port or a certificate cannot be used.
    """
    return await listen_http(
        observed_http(openai_handler(models, rules(options), metrics, keys), options, "openai", None),
        host=options.openai_host or options.host,
        port=options.openai_port,
        limits=HttpLimits(body_bytes=options.openai_body_bytes),
        tls=port_rules.tls(
            "openai", options.openai_cert, options.openai_cert_key, options.openai_client_ca, key_name="cert_key"
        ),
        refusal=wire_refusal,
    )
