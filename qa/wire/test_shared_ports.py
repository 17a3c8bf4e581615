"""Several server processes on one port: the kernel spreads the connections over them."""

import time

import grpc
import httpx
from qa.wire.conftest import running
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

BOUND_S = 20.0
SHARED = ("--http-port-shared", "--grpc-port-shared")


def over_http(port):
    return httpx.get(f"http://127.0.0.1:{port}/v2").json()["name"]


def over_grpc(port):
    # A pool of its own: channels of one address share their connection otherwise.
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=5).name


def names(ask, port, wanted):
    """Ask over new connections until every server has answered."""
    seen, until = set(), time.monotonic() + BOUND_S
    while seen != wanted and time.monotonic() < until:
        seen.add(ask(port))
    return seen


def test_two_servers_share_their_ports(models, tmp_path):
    """Both answer at the ports of the first; when one ends, the other answers alone."""
    free = ("--http-port=0", "--grpc-port=0")
    with running(models, tmp_path / "a.txt", *SHARED, *free, "--server-id=a") as first:
        taken = (f"--http-port={first.http}", f"--grpc-port={first.grpc}")
        with running(models, tmp_path / "b.txt", *SHARED, *taken, "--server-id=b") as second:
            assert (second.http, second.grpc) == (first.http, first.grpc)
            assert names(over_http, first.http, {"a", "b"}) == {"a", "b"}
            assert names(over_grpc, first.grpc, {"a", "b"}) == {"a", "b"}
        assert {over_http(first.http) for _ in range(20)} == {"a"}
        assert {over_grpc(first.grpc) for _ in range(5)} == {"a"}
