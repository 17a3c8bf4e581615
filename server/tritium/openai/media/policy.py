"""What media a server fetches, and from where: nothing from the network unless its host is listed.

An entry is a host (`images.example.org`), all hosts of a domain (`*.example.org`), every host (`*`), or addresses
(`10.2.0.0/16`). A listed name does not make a private address reachable: that has to be listed itself, so that whoever
controls a name cannot point it at the server's own network.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses by which IPv6 networks reach those of IPv4."""
_HOSTS = re.compile(r"\*|(?:\*\.)?[^\s/:*@]+")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class MediaPolicy:
    """`most_bytes` bounds each file, `most_items` how many a request has; a fetch ends within `timeout_s`.

    `most_bytes_in_all` bounds the files of a request together, unless a single one may be larger.
    """

    hosts: tuple[str, ...] = ()
    most_bytes: int = 32 << 20
    most_bytes_in_all: int = 128 << 20
    most_items: int = 32
    timeout_s: float = 10.0
    most_redirects: int = 3

    def takes_host(self, host: str) -> bool:
        """Tell whether anything may be fetched from a host, by its name or address."""
        host = host.lower().rstrip(".")
        address = as_address(host)
        if address is not None:
            return self.takes_address(address)
        return any(_names(entry.lower(), host) for entry in self.hosts)

    def takes_address(self, address: Address) -> bool:
        """Tell whether a connection to an address may be opened for a host that is listed, or by itself."""
        if any(address in network for network in self._networks):
            return True
        return _public(address) and any(as_network(entry) is None for entry in self.hosts)

    @cached_property
    def _networks(self) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [network for entry in self.hosts if (network := as_network(entry)) is not None]


DATA_ONLY = MediaPolicy()
"""Nothing is fetched: media come within the request."""


def _public(address: Address) -> bool:
    """Tell whether an address is on the open Internet, and what it leads to as well, where it wraps another."""
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.sixtofour
    return address.teredo is None and (inner is None or _public(inner))


def as_address(text: str) -> Address | None:
    """Return the address that a host is written as; an IPv4 one inside of IPv6 as what it is."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_entry(text: str) -> bool:
    """Tell whether a text is a host, a domain, `*` or addresses; an URL, a port or a wrong network is none."""
    return as_network(text) is not None or _HOSTS.fullmatch(text) is not None


def as_network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the addresses that an entry lists; None where it names hosts."""
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _names(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
