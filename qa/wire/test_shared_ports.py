"""Several server processes on one port: the kernel spreads the connections over them."""

import threading
import time
from pathlib import Path

import grpc
import httpx
from qa.wire.conftest import running
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

BOUND_S = 60.0
ROOT = Path(__file__).parents[2]
REQUEST = {
    "inputs": [
        {"name": name, "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} for name in ("INPUT0", "INPUT1")
    ]
}
SHARED = ("--http-port-shared", "--grpc-port-shared")


def over_http(port):
    return httpx.get(f"http://127.0.0.1:{port}/v2", timeout=60).json()["name"]


def over_grpc(port):
    # A pool of its own: channels of one address share their connection otherwise.
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=60).name


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


class Load:
    """Clients of one port in threads of their own, each with its way to connect; what went wrong is kept."""

    def __init__(self, port, limits):
        self.answers = dict.fromkeys(limits, 0)
        self.names = set()
        self.faults = []
        self._over = False
        self._moved = threading.Condition()
        self._threads = [threading.Thread(target=self._ask, args=(way, port, limits[way])) for way in limits]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        for thread in self._threads:
            thread.join()

    def until(self, condition):
        """Wait for what the clients have seen."""
        with self._moved:
            assert self._moved.wait_for(condition, 60), (self.answers, self.names, self.faults)

    def _ask(self, way, port, limits):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits, verify=False) as client:
            while not self._over:
                try:
                    status = client.post("/v2/models/add_sub/infer", json=REQUEST).status_code
                    name = client.get("/v2").json()["name"]
                except httpx.HTTPError as fault:
                    status, name = fault, None
                with self._moved:
                    if status != 200:
                        self.faults.append((way, status))
                    self.answers[way] += 1
                    self.names.add(name)
                    self._moved.notify()


def test_a_server_is_replaced_without_a_loss(tmp_path):
    """A new server takes connections of a shared port once it can serve; the old one loses none as it ends."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "add_sub").symlink_to(ROOT / "model_repository" / "add_sub")
    free = ("--http-port=0", "--grpc-port=0")
    ways = {"kept alive": httpx.Limits(), "connecting anew": httpx.Limits(max_keepalive_connections=0)}
    with running(models, tmp_path / "a.txt", *SHARED, *free, "--server-id=a") as first:
        taken = (f"--http-port={first.http}", f"--grpc-port={first.grpc}")
        with Load(first.http, ways) as load:
            load.until(lambda: all(load.answers.values()))
            with running(models, tmp_path / "b.txt", *SHARED, *taken, "--server-id=b"):
                load.until(lambda: load.names == {"a", "b"})
                first.process.terminate()
                assert first.process.wait(60) == 0
                so_far = dict(load.answers)
                load.until(lambda: all(load.answers[way] > so_far[way] + 5 for way in ways))
                load.__exit__()
    assert load.faults == []
