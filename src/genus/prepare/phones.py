"""Telephone numbers in text: international ones, those of North America in their own writing, and Chinese mobiles.

An international number must begin with a country code that exists. Eleven digits are taken for a Chinese mobile only beside
Chinese text or a word such as "tel", and never as the number of an order or a sum of money.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

GATE = (
    r"\+[0-9(]"
    r"|1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}"
    r"|[2-9][0-9]{2}(?:\) ?|[-.])[2-9][0-9]{2}[-. ][0-9]{4}"
)

_CODES = (
    "1 7 20 27 30-34 36 39-41 43-49 51-58 60-66 81 82 84 86 90-95 98 211-213 216 218 220-269 290 291 297-299 350-359 370-378 "
    "380-383 385-387 389 420 421 423 500-509 590-599 670 672-683 685-692 800 808 850 852 853 855 856 870 878 880-883 886 888 "
    "960-968 970-977 979 992-996 998"
)
COUNTRY_CODES = frozenset(
    code for low, _, high in (each.partition("-") for each in _CODES.split()) for code in range(int(low), int(high or low) + 1)
)
"""Country codes that are assigned (ITU-T E.164)."""

NEAR = 30
"""Characters on both sides in which to look for a word that speaks of telephones."""

_INTERNATIONAL = re.compile(r"\+(?<![\w)\]+.*/-]\+)\(?[1-9][0-9]{0,3}\)?(?:[ .-]?(?:\([0-9]{1,4}\)|[0-9]+)){1,6}", re.A)
_NORTH_AMERICAN = re.compile(
    r"[(2-9](?<![\w+./=#$][(2-9])(?:(?<=\()[2-9][0-9]{2}\) ?([2-9][0-9]{2})[-. ]|(?<!\()[0-9]{2}([-.])([2-9][0-9]{2})\2)[0-9]{4}"
    r"(?!\w|[-./][0-9])",
    re.A,
)
_MOBILE = re.compile(
    r"1(?:3[0-9]|4[014-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])([ -]?)[0-9]{4}\1[0-9]{4}(?!\w|[.,-][0-9])", re.A
)
_CHINA = re.compile(r"(?:\+|(?<!\w)00|(?<!\w))86[ -]?$", re.A)
_CALL = re.compile(
    r"电话|手机|電話|手機|联系|聯繫|联络|致电|拨打|热线|微信|(?<![a-z])(?:tel|phone|mobile|cell|call|contact|whatsapp|wechat|sms)",
    re.I,
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_NUMBERED = re.compile(
    r"(?:订单|訂單|单号|編號|编号|流水|账号|帳號|卡号|序列|型号|ISBN|EAN|QQ|(?<![a-z])id|(?<![a-z])no\.?|#)"
    r"[^\w\n]{0,3}\w{0,2}[^\w\n]{0,2}$",
    re.I,
)
_AMOUNT = re.compile(
    r"\s?(?:[元块塊万萬亿億円人次个個%$€£¥]|字节|美元|(?:bytes|years|people|dollars?|euros?|usd|eur|rmb)(?!\w))", re.I
)


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Places of telephone numbers; they may overlap."""
    for found in _INTERNATIONAL.finditer(text):
        start = found.start()
        end = start + _international(found[0])
        if end > start and not _goes_on(text, end) and not _AMOUNT.match(text, end):
            yield start, end
    for found in _NORTH_AMERICAN.finditer(text):
        begin = _with_trunk(text, found.start())
        area, exchange = found[0].lstrip("(")[:3], found[1] or found[3]
        if begin is not None and area[1:] != "11" and exchange[1:] != "11":
            yield begin, found.end()
    for found in _MOBILE.finditer(text):
        begin = _mobile_start(text, found.start(), found.end())
        if begin is not None:
            yield begin, found.end()


def _international(text: str) -> int:
    """How many characters of text that begins with + are a number: whole groups, at most 15 digits; 0 if it is none."""
    digits = re.sub(r"[^0-9]", "", text)
    code = next((digits[:n] for n in (1, 2, 3) if int(digits[:n]) in COUNTRY_CODES), None)
    if code is None or (code == "1" and not re.match(r"1[2-9][0-9]{2}[2-9]", digits)):
        return 0
    for end in reversed([found.end() for found in re.finditer(r"[0-9]+\)?", text)]):
        number = re.sub(r"[^0-9]", "", text[:end])
        if len(number) in (range(11, 12) if code == "1" else range(9, 16)) and len(set(number[len(code) :])) > 2:
            return end
    return 0


def _goes_on(text: str, end: int) -> bool:
    """Whether what looks like a number is the beginning of something else, a word or a fraction."""
    return re.match(r"\w|[.,][0-9]", text[end : end + 2], re.A) is not None


def _with_trunk(text: str, start: int) -> int | None:
    """Where a North American number begins, with the 1 that may stand before it; None after any other hyphen."""
    if re.search(r"(?<![\w.+-])1[-. ]$", text[max(0, start - 3) : start], re.A):
        return start - 2
    return None if text[start - 1 : start] == "-" else start


def _mobile_start(text: str, start: int, end: int) -> int | None:
    number = re.sub(r"[^0-9]", "", text[start:end])
    if number.endswith("00000") or len(set(number)) < 3:
        return None
    before = text[max(0, start - NEAR) : start]
    country = _CHINA.search(before)
    if country:
        return start - len(before) + country.start()
    if re.search(r"[\w.+=-]$", before, re.A) or _NUMBERED.search(before) or _AMOUNT.match(text, end):
        return None
    beside = _CALL.search(before) or _HAN.search(before) or _HAN.search(text, end, end + NEAR)
    return start if beside else None
