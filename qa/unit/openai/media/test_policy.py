import ipaddress

import pytest

from tritium.openai.media.policy import MediaPolicy, is_entry


@pytest.mark.parametrize(
    ("hosts", "host", "taken"),
    [
        ((), "images.example", False),
        (("images.example",), "images.example", True),
        (("images.example",), "IMAGES.example.", True),
        (("images.example",), "evil-images.example", False),
        (("*.example",), "a.b.example", True),
        (("*.example",), "example", False),
        (("*.example",), "notexample", False),
        (("*",), "anything.test", True),
        (("*",), "8.8.8.8", True),
        (("*",), "127.0.0.1", False),
        (("*",), "[::1]", False),
        (("*",), "169.254.169.254", False),
        (("*",), "::ffff:10.0.0.1", False),
        (("images.example",), "10.0.0.1", False),
        (("10.0.0.0/8",), "10.0.0.1", True),
        (("10.0.0.0/8",), "8.8.8.8", False),
        (("127.0.0.1",), "127.0.0.1", True),
    ],
)
def test_hosts(hosts, host, taken):
    """A host is taken where it, its domain, every host or its address is listed; private addresses only themselves."""
    assert MediaPolicy(hosts).takes_host(host) is taken


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_addresses_that_a_name_must_not_lead_to(address):
    """A listed name that turns out to be at an address of the server's own network is not followed there."""
    assert not MediaPolicy(("images.example", "*")).takes_address(ipaddress.ip_address(address))
    assert MediaPolicy((f"{address}",)).takes_address(ipaddress.ip_address(address))


def test_public_addresses():
    """Names may lead to the open Internet."""
    policy = MediaPolicy(("images.example",))
    for address in ("8.8.8.8", "2606:4700::1111"):
        assert policy.takes_address(ipaddress.ip_address(address))


@pytest.mark.parametrize("entry", ["images.example", "*.example", "*", "10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"])
def test_what_can_be_listed(entry):
    """Hosts, domains, everything, and addresses."""
    assert is_entry(entry)


@pytest.mark.parametrize("entry", ["", "1.2.3.4/99", "https://images.example", "images.example:443", "a.*.b", "a/b"])
def test_what_would_list_nothing(entry):
    """An URL, a port, a star elsewhere, a network that there is not."""
    assert not is_entry(entry)
