"""The ports a server is to open: that no two are the same, and whose it is that cannot be opened."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tritium.cli.options import PREFIX, ServeOptions, SettingsError
from tritium.compat.config import messages
from tritium.wire.address import bind
from tritium.wire.errors import ListenError

_PROTOCOLS = (
    ("HTTP", "http"),
    ("GRPC", "grpc"),
    ("Metrics", "metrics"),
    ("OpenAI", "openai"),
    ("SageMaker", "sagemaker"),
    ("Vertex AI", "vertex_ai"),
)
"""As Triton names the services, and as our settings begin."""


@dataclass(frozen=True, slots=True)
class Port:
    """Where a protocol is served; port 0 takes a free one."""

    protocol: str
    host: str
    port: int
    shared: bool = False


def ports(options: ServeOptions) -> Iterator[Port]:
    """Return the ports of the protocols that are switched on."""
    for protocol, prefix in _PROTOCOLS:
        if getattr(options, prefix):
            host = getattr(options, f"{prefix}_host") or options.host
            shared = getattr(options, f"{prefix}_port_shared", False)
            yield Port(protocol, host, getattr(options, f"{prefix}_port"), shared)


def check_ports(options: ServeOptions) -> None:
    """Find two protocols that are to be served at one address and port.

    Raises:
        SettingsError: there are such two.
    """
    seen: dict[tuple[str, int], str] = {}
    for one in ports(options):
        first = seen.setdefault((one.host, one.port), one.protocol)
        if first != one.protocol and one.port:
            raise SettingsError(messages.same_port(first, one.protocol, f"{one.host}:{one.port}"))
    if options.sagemaker and options.sagemaker_safe_ports:
        _check_safe(options)


def _check_safe(options: ServeOptions) -> None:
    """Hold the other protocols against the ports that SageMaker leaves them."""
    lowest, _, highest = options.sagemaker_safe_ports.partition("-")
    if not lowest.isdecimal() or not highest.isdecimal():
        raise SettingsError(f"sagemaker_safe_ports takes LOWEST-HIGHEST, not '{options.sagemaker_safe_ports}'")
    for one in ports(options):
        if one.protocol != "SageMaker" and not int(lowest) <= one.port <= int(highest):
            raise SettingsError(
                f"The server cannot listen to {one.protocol} requests at port {one.port}, "
                f"allowed port range is [{lowest}, {highest}]"
            )


async def check_free(options: ServeOptions) -> None:
    """Find ports that are taken before the models are looked at, which may take long.

    Raises:
        ListenError: one of them cannot be opened.
    """
    for one in ports(options):
        # A client may reach a shared port while it is looked at, and be lost.
        if one.port and not one.shared:
            for opened in await bind(one.host, one.port):
                opened.close()


async def give_up_openai(options: ServeOptions, environment: Mapping[str, str] = os.environ) -> ServeOptions:
    """Do without the OpenAI port where it is taken and nobody asked for it: two tritonservers share a machine."""
    asked = {f"{PREFIX}OPENAI", f"{PREFIX}OPENAI_PORT", f"{PREFIX}OPENAI_HOST"} & set(environment)
    if asked or not options.openai:
        return options
    try:
        await check_free(replace(options, http=False, grpc=False, metrics=False, sagemaker=False, vertex_ai=False))
    except ListenError:
        return replace(options, openai=False)
    return options


def explain(error: ListenError, options: ServeOptions) -> str:
    """Say in Triton's words which service could not be started, and then why."""
    at_fault = next((one for one in ports(options) if (one.host, one.port) == (error.host, error.port)), None)
    if at_fault is None or not error.taken:
        return str(error)
    message = messages.port_in_use(at_fault.protocol, f"{error.host}:{error.port}")
    return f"{message}\n  hint: {error.hint}" if error.hint else message
