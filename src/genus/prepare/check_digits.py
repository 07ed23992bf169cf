"""Numbers that prove themselves: check digits of payment cards, bank accounts and Chinese resident identity numbers."""

from __future__ import annotations

from datetime import date

_IBANS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
    "YE30"
)
IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBANS.split()}
"""Characters of an account number by country (SWIFT, IBAN Registry)."""

PROVINCES = frozenset(
    map(str, [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83])
)
"""First two digits of a resident identity number (GB/T 2260)."""

BIRTH_YEARS = range(1900, 2040)
"""Of people in living memory and a while to come: today's date would make the result depend on the day."""

RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_MARKS = "10X98765432"

# Lengths by the numbers that cards of a network begin with (ISO/IEC 7812). Visa's old 13 digits are left out: so long are EANs.
CARD_NETWORKS = (
    (4, 4, (16, 18, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (300, 305, (14,)),  # Diners Club
    (36, 36, (14,)),
    (38, 39, (14,)),
    (6011, 6011, (16, 19)),  # Discover
    (644, 659, (16, 19)),
    (3528, 3589, (16,)),  # JCB
    (62, 62, (16, 17, 18, 19)),  # UnionPay
)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + i % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether digits are a payment card's number: a network's beginning and length, and the check digit."""
    for low, high, lengths in CARD_NETWORKS:
        if len(digits) in lengths and low <= int(digits[: len(str(low))]) <= high:
            return luhn(digits)
    return False


def is_iban(text: str) -> bool:
    """Whether text without blanks is an International Bank Account Number: its country's length, and 1 modulo 97 (ISO 13616)."""
    if len(text) != IBAN_LENGTHS.get(text[:2]) or not text.isascii() or not text.isalnum():
        return False
    return int("".join(str(int(each, 36)) for each in text[4:] + text[:4])) % 97 == 1


def is_resident(text: str) -> bool:
    """Whether 18 characters are a Chinese resident identity number: province, day of birth, check digit (GB 11643-1999)."""
    if len(text) != 18 or not text[:17].isdecimal() or not text.isascii() or text[:2] not in PROVINCES:
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    if born.year not in BIRTH_YEARS:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(text, RESIDENT_WEIGHTS))
    return RESIDENT_MARKS[total % 11] == text[17].upper()


def is_social_security(digits: str) -> bool:
    """Whether nine digits can be a number of the United States' Social Security Administration; it has no check digit."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
