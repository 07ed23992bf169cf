"""Numbers of people and accounts in text: payment cards, bank accounts, Chinese resident identity numbers, US social security.

The first three carry check digits (`genus.prepare.check_digits`), which one number in ten, in 97 and in eleven passes by chance.
So they must also stand alone, have the length and the beginning of their kind, and be grouped as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from genus.prepare.check_digits import IBAN_LENGTHS, is_card, is_iban, is_resident, is_social_security

CARD_GATE = r"[2-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}|3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4}"
IBAN_GATE = r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4} ?[A-Z0-9]{3}"
RESIDENT_GATE = r"[1-8][0-9]{16}[0-9Xx]"
SOCIAL_SECURITY_GATE = r"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}|(?i:ssn|social security)[^0-9\n]{0,20}[0-9]{3} ?[0-9]{2} ?[0-9]{4}"

_CARD = re.compile(
    r"[2-6](?<![\w.+/=-][2-6])[0-9]{3}(?:([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?|([ -]?)[0-9]{6}\2[0-9]{4,5})"
    r"(?!\w|[.-]\w)",
    re.A,
)
_COLUMN = re.compile(r"(?:^|\s)[0-9]{4}[ -]$")  # a number before, in a row of numbers of four digits
_IBAN = re.compile(r"[A-Z](?<![\w-][A-Z])[A-Z][0-9]{2}(?= ?[A-Z0-9])", re.A)
_RESIDENT = re.compile(r"[1-8](?<![\w.-][1-8])[0-9]{16}[0-9Xx](?!\w|[.-]\w)", re.A)
_HYPHENS = re.compile(r"[0-8](?<![\w.+/=-][0-8])[0-9]{2}-[0-9]{2}-[0-9]{4}(?!\w|[.-]\w)", re.A)
_NAMED = re.compile(r"(?:\bssn|social security)[^0-9\n]{0,20}([0-9]{3} ?[0-9]{2} ?[0-9]{4})(?!\w|[.-]\w)", re.A | re.I)


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Places of payment card numbers: unbroken, or in the groups that are printed on cards."""
    for found in _CARD.finditer(text):
        groups = re.split(r"[ -]", found[0])
        round_figures = len(groups) > 1 and all(group.endswith("0") for group in groups)
        in_a_row = len(groups) > 1 and (
            _COLUMN.search(text, max(0, found.start() - 6), found.start())
            or re.match(r" [0-9]{4}(?![0-9])", text[found.end() :][:6])
        )
        if not round_figures and not in_a_row and is_card("".join(groups)):
            yield found.start(), found.end()


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Places of International Bank Account Numbers, with or without blanks."""
    for found in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(found[0][:2])
        if length is None:
            continue
        whole = re.compile(rf"(?: ?[A-Z0-9]){{{length - 4}}}(?!\w)", re.A).match(text, found.end())
        if whole and is_iban(text[found.start() : whole.end()].replace(" ", "")):
            yield found.start(), whole.end()


def find_residents(text: str) -> Iterator[tuple[int, int]]:
    """Places of Chinese resident identity numbers."""
    for found in _RESIDENT.finditer(text):
        if is_resident(found[0]):
            yield found.span()


def find_social_security(text: str) -> Iterator[tuple[int, int]]:
    """Places of US social security numbers: with hyphens, or after their name."""
    for found in _HYPHENS.finditer(text):
        if is_social_security(found[0].replace("-", "")):
            yield found.span()
    for found in _NAMED.finditer(text):
        if is_social_security(found[1].replace(" ", "")):
            yield found.span(1)
