"""Public addresses of the Internet in text. Versions and section numbers, which look the same, stay; so do private addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

GATE = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9a-fA-F]{3}:[0-9a-fA-F]{0,4}:"

FIRST, LEAST = 20, 10
"""Without a word beside it, four numbers are an address if the first is at least FIRST, the others LEAST: versions are small."""

NEAR = 24
"""Characters before it, on the same line, in which to look for a word that speaks of versions or of addresses."""

_FOUR = re.compile(r"[0-9](?<![\w.-][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|-[A-Za-z]|\.\w)", re.A)
_SIX = re.compile(r"[23](?<![\w:.][23])[0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){1,6}[0-9a-fA-F]{0,4}(?![\w:])", re.A)
_VERSION = re.compile(
    r"(?:(?<![a-z])(?:v|ver|rev|oid|sdk|api)|versions?|released?|revision|build|update[ds]?|upgraded?|firmware|driver|player|patch"
    r"|section|chapter|clause|figure|table|§|版本|版|升级|更新|固件|驱动|[=><~!]=|[~^])[\s.:#\"'(]{0,3}$",
    re.I,
)
_ADDRESS = re.compile(
    r"(?<![a-z])(?:ips?(?:v4)?|from|ssh|dns|user|ping)(?![a-z])|addr|host|server|gateway|client|proxy|router|subnet|netmask|connect"
    r"|login|visitor|peer|remote|://|@|地址|服务器|伺服器|主机|登录|登錄|访问|网关",
    re.I,
)
_STRUCTURE = re.compile(r":[0-9]{2,5}\b|/(?:[89]|[12][0-9]|3[0-2])\b(?!/)|\s-\s\S+\s\[", re.A)


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Places of public addresses, version 4 and 6."""
    for found in _FOUR.finditer(text):
        if _is_public(found[0]) and _is_address(text, found.start(), found.end()):
            yield found.start(), found.end()
    for found in _SIX.finditer(text):
        if _is_public(found[0]):
            yield found.start(), found.end()


def _is_public(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def _is_address(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - NEAR) : start].rpartition("\n")[2]
    if _VERSION.search(before):
        return False
    if _STRUCTURE.match(text, end) or _ADDRESS.search(before):
        return True
    first, *rest = map(int, text[start:end].split("."))
    return first >= FIRST and min(rest) >= LEAST
