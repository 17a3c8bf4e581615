"""What is tried of KV transfer before a fleet takes requests: the path, the speed, and words where it does not work."""

import os

import pytest

from tritium.backends.transfer import paths
from tritium.backends.transfer.check import begin_check
from tritium.backends.transfer.paths import TransferPath, prepare_path, transport_of, ucx_environment
from tritium.core.errors import Unavailable
from tritium.kv.nixl_package import find_nixl

nixl = pytest.mark.skipif(not find_nixl(), reason="NIXL is not installed")


async def test_shared_memory():
    """Bytes really move between two processes, and their speed is told."""
    check = await (await begin_check("shm")).result()
    assert (check.transport, check.path, check.fault, check.notes) == ("shm", "memory", "", ())
    assert check.bytes_s > 1 << 20


@nixl
async def test_nixl_over_tcp(monkeypatch):
    """UCX is confined to the path that is asked for, and says itself which lanes it took."""
    for name, value in ucx_environment(TransferPath.TCP).items():
        monkeypatch.setenv(name, value)
    check = await (await begin_check("nixl")).result()
    assert (check.transport, check.fault) == ("nixl", "")
    assert check.path.startswith("tcp/")
    assert "memory" not in check.path
    assert check.bytes_s > 1 << 20


@nixl
async def test_path_that_does_not_work(monkeypatch):
    """The operator is told in the transport's words."""
    monkeypatch.setenv("UCX_TLS", "nonsense")
    check = await (await begin_check("nixl")).result()
    assert "NIXL_ERR_BACKEND" in check.fault
    assert check.notes[0].startswith("KV did not move between two processes here (")


def test_rdma_without_a_device(monkeypatch, tmp_path):
    """It is refused before anything is loaded; with a device UCX is confined to it."""
    monkeypatch.setenv("UCX_TLS", "put back when the test is over")
    monkeypatch.delenv("UCX_TLS")
    monkeypatch.setattr(paths, "_DEVICES", tmp_path)
    with pytest.raises(Unavailable, match="no RDMA device"):
        prepare_path(TransferPath.RDMA)
    assert "UCX_TLS" not in os.environ
    (tmp_path / "mlx5_0").touch()
    prepare_path(TransferPath.RDMA)
    assert os.environ["UCX_TLS"].startswith("rc,")
    monkeypatch.setenv("UCX_TLS", "all")
    prepare_path(TransferPath.RDMA)
    assert os.environ["UCX_TLS"] == "all", "what an operator has set stays"


def test_transports_of_our_own_engines():
    """Only shared memory is ours; whatever names a network is NIXL's."""
    assert {path.value: transport_of(path) for path in TransferPath} == {
        "auto": "",
        "rdma": "nixl",
        "tcp": "nixl",
        "shm": "shm",
    }
