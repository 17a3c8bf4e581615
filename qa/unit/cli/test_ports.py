"""Ports: found to be taken or given twice before anything else is done, and told by Triton's names."""

import socket

import pytest

from tritium.cli.options import ServeOptions, SettingsError
from tritium.cli.ports import check_free, check_ports, explain, give_up_openai
from tritium.wire.errors import ListenError


@pytest.fixture
def taken():
    """Hold a port of 127.0.0.1."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def options(**changed):
    zero = dict.fromkeys(("http_port", "grpc_port", "metrics_port", "openai_port"), 0)
    return ServeOptions(repositories=("/a",), **{**zero, **changed})


def test_two_protocols_at_one_address():
    """Different addresses may have the same port, and protocols that are off have none."""
    with pytest.raises(SettingsError, match=r"cannot listen to HTTP requests and GRPC requests at the same .* 127"):
        check_ports(options(http_port=7000, grpc_port=7000))
    check_ports(options(http_port=7000, grpc_port=7000, grpc=False))
    check_ports(options(http_port=7000, grpc_port=7000, grpc_host="127.0.0.2"))
    check_ports(options())


@pytest.mark.parametrize(("prefix", "name"), [("http", "HTTP"), ("grpc", "GRPC"), ("metrics", "Metrics")])
async def test_a_taken_port_is_told_by_its_service(taken, prefix, name):
    """The message is Triton's, for scripts that look for it; the hint is ours."""
    settings = options(**{f"{prefix}_port": taken})
    with pytest.raises(ListenError) as caught:
        await check_free(settings)
    said = explain(caught.value, settings)
    message = f"failed to start {name} service: Unavailable - Socket '127.0.0.1:{taken}' already in use "
    assert said.startswith(f"{message}\n  hint: ")


async def test_tritonserver_does_without_a_port_that_nobody_asked_for(taken):
    """Two tritonservers on one machine name their own ports, and know nothing of a fourth."""
    settings = options(openai_port=taken)
    assert not (await give_up_openai(settings, {})).openai
    assert (await give_up_openai(settings, {"TRITIUM_OPENAI_PORT": str(taken)})).openai
    assert (await give_up_openai(options(), {})).openai
