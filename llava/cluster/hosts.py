"""What a host's name or address says of who has it. Looks nothing up."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def is_loopback(host: str) -> bool:
    """Whether an address, or the name `localhost`, is this machine's own; other names are not looked up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def network(host: str) -> str:
    """Who has an address, as far as it tells: the address itself, but of IPv6 the 64 bits that one household has all addresses of."""
    address = _address(host)
    return f"{int(address) >> 64:x}" if isinstance(address, IPv6Address) else host


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """An address, of IPv4 where it is one in the form of IPv6; None for a name."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
