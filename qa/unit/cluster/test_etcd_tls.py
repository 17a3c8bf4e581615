"""Discovery by an etcd that speaks TLS alone, to those alone who show a certificate of its authority."""

import pytest
from qa.unit.cluster.etcd_server import EtcdServer
from qa.unit.cluster.remote_fleet import until
from qa.unit.cluster.test_discovery import Views, instance
from qa.unit.cluster.test_plane import members

from tritium.cluster.discovery.choose import open_discovery
from tritium.core.errors import InvalidArgument, Unavailable

pytestmark = pytest.mark.server("etcd")


@pytest.fixture
def etcd(tmp_path):
    """An etcd with certificates, and what a member shows it."""
    of_server, of_member = members(tmp_path / "pki", "server", "member")
    server = EtcdServer(security=of_server).start_now()
    yield server, of_member
    server.close()


def discovery_of(server, security):
    """What `--discovery-ca`, `--discovery-cert` and `--discovery-cert-key` make of an address."""
    return open_discovery(
        server.address, authority=security.authority, certificate=security.certificate, key=security.key
    )


async def test_members_find_each_other(etcd):
    """With certificates of etcd's authority a worker is announced and found, also after etcd was away."""
    server, member = etcd
    worker, late, front = (discovery_of(server, member) for _ in range(3))
    views = Views()
    await worker.announce(instance("a"))
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    server.kill()
    await server.start()
    await late.announce(instance("b"))
    await until(lambda: views.workers == ["a", "b"])
    for discovery in (worker, late, front):
        await discovery.close()


async def test_strangers_do_not_come_in(etcd, tmp_path):
    """Without TLS, and with certificates of another authority, nobody is announced."""
    server, _ = etcd
    [stranger] = members(tmp_path / "strangers", "stranger")
    for discovery in (open_discovery(server.address), discovery_of(server, stranger)):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{server.port} does not answer"):
            await discovery.announce(instance("a"))
        await discovery.close()


def test_certificates_that_are_not_there(etcd, tmp_path):
    """A file that cannot be read is named before anything starts."""
    server, _ = etcd
    with pytest.raises(InvalidArgument, match=f"a certificate for etcd cannot be read: {tmp_path / 'none'}"):
        open_discovery(server.address, authority=tmp_path / "none")
