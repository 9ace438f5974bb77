"""What a host's name or address says, also one that was made to look like another."""

import pytest

from llava.cluster.hosts import is_loopback, network


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"])
def test_this_machine_has_several_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "",
        "127.0.0.1.evil.example",
        "127.evil.example",
        "127.0.0.1%evil",
        "localhost.evil",
        "10.0.0.1",
        "2130706433",
        "127.1",
    ],
)
def test_a_name_that_looks_like_this_machines_is_none(host: str) -> None:
    assert not is_loopback(host)


def test_all_addresses_of_one_ipv6_network_are_one_peer() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") == network("2001:db8::1%eth0")
    assert network("2001:db8::1") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") != network("192.0.2.2")
    assert network("::ffff:192.0.2.1") != network("::ffff:192.0.2.2")
    assert network("a-name") == "a-name"
