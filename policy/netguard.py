"""Connections that cannot be led into private networks, for addresses that people enter on the site.

Whoever may enter the address of an endpoint or a webhook could otherwise make the server talk to its own loopback, to
its network's machines or to a cloud's metadata service (server-side request forgery, OWASP). The check is made when a
connection is opened, on the numeric addresses that the name stands for at that moment, and the connection goes to one
of those very addresses: neither an odd spelling nor a name that changes between check and connection gets round it.

    httpx2.AsyncClient(transport=GuardedTransport(allowed_networks()))

Left out: proxies, since a proxy would choose the address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore2
import httpx2

from rewardmodel.contract import JobError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port in, numeric addresses out; raises OSError for a name that stands for nothing."""

VARIABLE = "HONE_PRIVATE_NETWORKS"
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's platform service, in a public range
        "192.0.0.0/24",  # RFC 6890; Oracle Cloud's metadata service is 192.0.0.192
        "64:ff9b:1::/48",  # RFC 8215, translation within one network
        "2001::/32",  # Teredo and 6to4 carry an IPv4 address that nobody would check
        "2002::/16",
        "fec0::/10",  # RFC 3879, site-local
    )
]
"""What the standard library counts as global and yet leads inside, in some version of it or all."""


class ForbiddenAddress(JobError):
    """An address that must not be connected to; the message is one sentence for the person who entered it."""


def allowed_networks() -> list[Network]:
    """Private networks that whoever runs the site has opened, from the environment.

    :raises JobError: when the variable holds something else than networks.
    """
    words = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
    try:
        return [ipaddress.ip_network(word) for word in words if word]
    except ValueError as problem:
        raise JobError(f"{VARIABLE} must list networks such as 10.1.0.0/16, separated by commas: {problem}.") from None


def is_permitted(address: str, allowed: Sequence[Network]) -> bool:
    """Whether a numeric address lies in the public Internet or in a network that was opened.

    :param address: IPv4 or IPv6; an IPv4 address inside an IPv6 one is judged as what it is.
    """
    found = _unwrapped(ipaddress.ip_address(address))
    if any(found in network for network in allowed):
        return True
    inside = found.is_multicast or found.is_reserved or any(found in network for network in NOT_PUBLIC)
    return found.is_global and not inside


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


async def resolve(host: str, port: int) -> list[str]:
    """The numeric addresses that the system's resolver gives for a host, in its order of preference."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to permitted addresses only."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of a host's addresses, if all of them are permitted.

        :raises ForbiddenAddress: when one is not.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"the name {host} was not resolved in time") from None
        except (OSError, UnicodeError) as problem:
            raise httpcore2.ConnectError(f"the name {host} cannot be resolved: {problem}") from None
        for address in addresses:
            if not is_permitted(address, self._allowed):
                raise ForbiddenAddress(
                    f"{host} stands for {address}, which is not in the public Internet; whoever runs the site can "
                    f"allow it with {VARIABLE}."
                )
        failure: httpcore2.NetworkError | httpcore2.TimeoutException | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as problem:
                failure = problem
        raise failure or httpcore2.ConnectError(f"the name {host} stands for no address")

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore2.AsyncNetworkStream:
        """Refuse: no address that a person enters is a socket of this machine."""
        raise ForbiddenAddress("Sockets of this machine are not reached by address.")

    async def sleep(self, seconds: float) -> None:
        """Wait, between tries to connect."""
        await asyncio.sleep(seconds)


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport over :class:`GuardedBackend`."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve = resolve) -> None:
        context = httpx2.create_ssl_context()
        super().__init__(verify=context)
        # httpx2 has no public way to choose the network backend of its connection pool.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context, network_backend=GuardedBackend(allowed, resolve)
        )
