"""E-mail addresses in text: found from their @, under a top-level domain that exists, so that code (`a@b.T`) and files stay."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

GATE = r"[A-Za-z0-9_%+-]@[A-Za-z0-9]"

COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf "
    "cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf gg "
    "gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn "
    "kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na "
    "nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh "
    "si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve "
    "vg vi vn vu wf ws ye yt za zm zw"
)
GENERIC = (
    "com org net edu gov mil int info biz name pro aero asia cat coop jobs mobi museum post tel travel arpa academy agency "
    "app art blog business capital care center chat church city cloud club community company consulting design dev digital "
    "earth education email engineering events expert family finance foundation fun global group guru health help host hotel "
    "institute international inc law legal life link live llc ltd management market marketing media men mobile money "
    "network news ngo one ong online page partners party photo photography press productions pub ren rocks sale school "
    "science services shop site social software solutions space store studio support systems team tech technology tips "
    "today tools top tours training university video vip wang website wiki win work world wtf xin xyz zone"
)
DOMAINS = frozenset(f"{COUNTRIES} {GENERIC}".split())
"""Top-level domains that addresses are met under (IANA's list, without brands and words of code)."""

SERVICES = frozenset(["git"])
"""Users that are no person: git@github.com:owner/repository."""

_LOCAL = string.ascii_letters + string.digits + "._%+-"
_LOCAL_LENGTH = 64
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}")
_GOES_ON = re.compile(r"[A-Za-z0-9_@(\[-]")


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Places of addresses."""
    at = text.find("@")
    while at >= 0:
        before = text[max(0, at - _LOCAL_LENGTH) : at]
        local = before[len(before.rstrip(_LOCAL)) :].lstrip(".%+-")
        end = _domain_end(text, at + 1) if local and local[-1] != "." else None
        if end and local.lower() not in SERVICES:
            yield at - len(local), end
        at = text.find("@", max(at + 1, end or 0))


def _domain_end(text: str, start: int) -> int | None:
    found = _DOMAIN.match(text, start)
    if not found:
        return None
    end = found.end()
    labels = found[0].split(".")
    while len(labels) > 1:
        top = labels[-1]
        known = top.lower() in DOMAINS and (top.islower() or top.isupper())
        if known and not _GOES_ON.match(text, end):
            return end
        if not top[0].isupper():  # of code; a capital begins the next sentence, whose blank was left out
            return None
        end -= len(labels.pop()) + 1
    return None
