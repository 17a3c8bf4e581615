"""What the HTTP port and the gRPC port are told in the same way: restrictions, forwarded headers, certificates."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tritium.cli.options import SettingsError
from tritium.compat.header_pattern import compile_pattern
from tritium.compat.restrictions import Api, Restriction, RestrictionError, parse
from tritium.wire.tls import Tls


def restricted(groups: Sequence[str], *, what: str) -> Mapping[Api, Restriction]:
    """Read what needs a header; `what` is what its members are called: api or protocol.

    Raises:
        SettingsError: in Triton's words.
    """
    try:
        return parse(groups, what=what)
    except RestrictionError as error:
        raise SettingsError(str(error)) from None


def forwarded(setting: str, pattern: str) -> re.Pattern[str] | None:
    """Read which headers become parameters; `setting` is the name of the setting.

    Raises:
        SettingsError: the pattern is none.
    """
    try:
        return compile_pattern(pattern)
    except re.error as error:
        raise SettingsError(f"{setting} is no regular expression: {error}") from None


def tls(protocol: str, certificate: str, key: str, client_ca: str, key_name: str = "key") -> Tls | None:
    """Return the certificates of a port, none where it speaks in the clear; `protocol` begins the settings' names.

    `key_name` ends the name of the private key's setting.

    Raises:
        SettingsError: one is there without another that it needs.
    """
    if not certificate:
        if key or client_ca:
            raise SettingsError(
                f"{protocol}_{key_name} and {protocol}_client_ca need {protocol}_cert, the certificate of the port"
            )
        return None
    if not key:
        raise SettingsError(f"{protocol}_cert needs {protocol}_{key_name}, the private key of the certificate")
    return Tls(Path(certificate), Path(key), Path(client_ca) if client_ca else None)
