"""Addresses that people enter lead to the public Internet only, however spelled, whatever a name turns to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpcore2
import httpx2
import pytest

from policy.netguard import ForbiddenAddress, GuardedBackend, GuardedTransport, allowed_networks, is_permitted
from rewardmodel.contract import JobError
from tests.policy.servers import Reply

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


class Names:
    """A resolver by script: each look-up of a name gives the next of its answers, the last one for ever."""

    def __init__(self, **answers: Sequence[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(several) for name, several in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        several = self._answers[host]
        return several.pop(0) if len(several) > 1 else several[0]


def get(url: str, transport: httpx2.AsyncBaseTransport) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=transport, timeout=5) as client:
            return await client.get(url)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",  # loopback, RFC 1122
        "127.255.255.254",
        "0.0.0.0",  # this host
        "10.1.2.3",  # private, RFC 1918
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",  # link-local, and most clouds' metadata
        "100.64.0.1",  # shared by a provider's customers, RFC 6598
        "100.100.100.200",  # Alibaba Cloud's metadata
        "192.0.0.192",  # Oracle Cloud's metadata
        "168.63.129.16",  # Azure's platform service
        "198.18.0.1",  # benchmarks, RFC 2544
        "203.0.113.9",  # documentation, RFC 5737
        "224.0.0.1",  # multicast
        "240.0.0.1",  # reserved
        "255.255.255.255",  # broadcast
        "::",
        "::1",
        "fe80::1",  # link-local
        "fe80::1%eth0",  # with a zone
        "fc00::1",  # unique local, RFC 4193
        "fd00:ec2::254",  # Amazon's metadata
        "fec0::1",  # site-local, RFC 3879
        "ff02::1",  # multicast
        "2001:db8::1",  # documentation
        "::ffff:127.0.0.1",  # IPv4 in IPv6, RFC 4291
        "::ffff:a9fe:a9fe",
        "::7f00:1",
        "64:ff9b::7f00:1",  # IPv4 through translation, RFC 6052
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",  # IPv4 through 6to4, RFC 3056
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo, RFC 4380
    ],
)
def test_an_address_inside_is_not_permitted(address):
    assert not is_permitted(address, [])


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_a_public_address_is_permitted(address):
    assert is_permitted(address, [])


def test_a_network_that_was_opened_is_permitted_and_its_neighbours_are_not(monkeypatch):
    monkeypatch.setenv("HONE_PRIVATE_NETWORKS", "10.1.0.0/16, fd00:1::/32,")
    allowed = allowed_networks()
    assert is_permitted("10.1.2.3", allowed)
    assert is_permitted("::ffff:10.1.2.3", allowed)
    assert is_permitted("fd00:1::5", allowed)
    assert not is_permitted("10.2.0.1", allowed)
    assert not is_permitted("fd00:2::5", allowed)


@pytest.mark.parametrize("value", ["10.1.0.0/99", "10.1.2.3/16", "intranet", "10.0.0.0/8 192.168.0.0/16"])
def test_networks_that_are_none_are_refused_with_a_sentence(monkeypatch, value):
    monkeypatch.setenv("HONE_PRIVATE_NETWORKS", value)
    with pytest.raises(JobError, match=r"HONE_PRIVATE_NETWORKS must list networks such as 10\.1\.0\.0/16"):
        allowed_networks()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0",
        "localhost",
        "LOCALHOST",
        "127。0。0。1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ],
)
def test_no_spelling_of_loopback_reaches_a_server_there(scripted, host):
    port = scripted.base_url.split(":")[2].removesuffix("/v1")
    with pytest.raises(ForbiddenAddress, match="which is not in the public Internet"):
        get(f"http://{host}:{port}/v1/models", GuardedTransport([]))
    assert scripted.asked == []


@pytest.mark.parametrize("host", ["localhost.", "0177.0.0.1", "①②⑦.0.0.1", "127.0.0.1."])
def test_no_spelling_that_some_part_on_the_way_does_not_know_reaches_it_either(scripted, host):
    with pytest.raises((ForbiddenAddress, httpx2.ConnectError, httpx2.InvalidURL)):
        get(scripted.base_url.replace("127.0.0.1", host) + "/models", GuardedTransport([]))
    assert scripted.asked == []


def test_a_name_that_stands_for_a_private_address_beside_a_public_one_is_refused(scripted):
    names = Names(both_example=[["8.8.8.8", "127.0.0.1"]])
    with pytest.raises(ForbiddenAddress, match=r"both\.example stands for 127\.0\.0\.1"):
        get(scripted.base_url.replace("127.0.0.1", "both.example"), GuardedTransport([], names))


def test_the_connection_goes_to_the_address_that_was_checked_although_the_name_changes_then(scripted):
    """DNS rebinding: were the name looked up a second time to connect, it would lead elsewhere."""
    names = Names(moves_example=[["127.0.0.1"], ["127.0.0.2"]])
    url = scripted.base_url.replace("127.0.0.1", "moves.example") + "/models"
    assert get(url, GuardedTransport(LOOPBACK, names)).status_code == 200
    assert names.asked == ["moves.example"]
    [asked] = scripted.asked
    assert asked.headers["Host"].startswith("moves.example:")


def test_the_next_address_of_a_name_is_tried_where_nobody_listens_at_the_first(scripted):
    names = Names(two_example=[["127.0.0.9", "127.0.0.1"]])
    url = scripted.base_url.replace("127.0.0.1", "two.example") + "/models"
    assert get(url, GuardedTransport(LOOPBACK, names)).status_code == 200


def test_a_redirect_is_not_followed(scripted):
    scripted.models = Reply(302, b"", {"Location": "http://169.254.169.254/latest/meta-data"})
    assert get(scripted.base_url + "/models", GuardedTransport(LOOPBACK)).status_code == 302
    assert len(scripted.asked) == 1


def test_a_client_that_follows_redirects_is_held_at_the_next_address(scripted):
    scripted.models = Reply(302, b"", {"Location": "http://169.254.169.254/latest/meta-data"})

    async def ask() -> None:
        async with httpx2.AsyncClient(transport=GuardedTransport(LOOPBACK), follow_redirects=True) as client:
            await client.get(scripted.base_url + "/models")

    with pytest.raises(ForbiddenAddress, match=r"169\.254\.169\.254"):
        asyncio.run(ask())


def test_a_name_that_stands_for_nothing_is_an_error_of_the_connection():
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(httpx2.ConnectError, match=r"the name nobody\.example cannot be resolved: .*not known"):
        get("http://nobody.example/", GuardedTransport([], unknown))
    with pytest.raises(httpx2.ConnectError, match="cannot be resolved"):
        get(f"http://{'a' * 64}.example/", GuardedTransport([]))
    with pytest.raises(httpx2.ConnectError, match="stands for no address"):
        get("http://empty.example/", GuardedTransport([], Names(empty_example=[[]])))


def test_a_slow_resolver_does_not_hold_longer_than_the_time_to_connect():
    async def never(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(httpcore2.ConnectTimeout, match=r"slow\.example was not resolved in time"):
        asyncio.run(GuardedBackend([], never).connect_tcp("slow.example", 80, timeout=0.05))


def test_sockets_of_the_machine_are_not_reached(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(ForbiddenAddress):
            asyncio.run(GuardedBackend([]).connect_unix_socket(str(tmp_path / "socket")))
