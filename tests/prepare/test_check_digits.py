"""Check digits find every wrong digit, and numbers that are known to be right pass."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.prepare.check_digits import (
    IBAN_LENGTHS,
    RESIDENT_MARKS,
    RESIDENT_WEIGHTS,
    is_card,
    is_iban,
    is_resident,
    is_social_security,
    luhn,
)

DIGITS = st.text("0123456789", min_size=13, max_size=18)
DAYS = st.integers(0, 45_000).map(lambda days: date(1900, 1, 1) + timedelta(days))


def with_luhn(digits: str) -> str:
    return next(digits + last for last in "0123456789" if luhn(digits + last))


def iban(country: str, account: str) -> str:
    whole = account + country + "00"
    rest = int("".join(str(int(each, 36)) for each in whole)) % 97
    return f"{country}{98 - rest:02d}{account}"


def resident(region: str, born: date, serial: int) -> str:
    first = f"{region}{born:%Y%m%d}{serial:03d}"
    total = sum(int(digit) * weight for digit, weight in zip(first, RESIDENT_WEIGHTS, strict=True))
    return first + RESIDENT_MARKS[total % 11]


@given(DIGITS, st.integers(0, 12), st.integers(1, 9))
def test_luhn_finds_every_wrong_digit(digits: str, at: int, more: int) -> None:
    right = with_luhn(digits)
    wrong = right[:at] + str((int(right[at]) + more) % 10) + right[at + 1 :]
    assert luhn(right) and not luhn(wrong)


@given(DIGITS, st.integers(0, 12))
def test_luhn_finds_neighbours_that_changed_places(digits: str, at: int) -> None:
    right = with_luhn(digits)
    swapped = right[:at] + right[at + 1] + right[at] + right[at + 2 :]
    same = right[at] == right[at + 1] or {right[at], right[at + 1]} == {"0", "9"}
    assert luhn(swapped) == same


@pytest.mark.parametrize(
    "number",
    ["4111111111111111", "5555555555554444", "2223003122003222", "378282246310005", "30569309025904", "6011111111111117",
     "3530111333300000", "6205500000000000004"],
)  # fmt: skip
def test_cards_of_every_network(number: str) -> None:
    assert is_card(number) and not is_card(number[:-1] + str((int(number[-1]) + 1) % 10))


@given(st.text("0123456789", min_size=15, max_size=15))
def test_only_networks_have_cards(digits: str) -> None:
    number = with_luhn(digits)
    known = number[0] in "4" or 51 <= int(number[:2]) <= 55 or 2221 <= int(number[:4]) <= 2720 or number[:2] in ("62", "65")
    assert is_card(number) == (known or number[:4] == "6011" or 644 <= int(number[:3]) <= 649 or 3528 <= int(number[:4]) <= 3589)


@pytest.mark.parametrize(
    "number",
    [
        "DE89370400440532013000",
        "GB29NWBK60161331926819",
        "FR1420041010050500013M02606",
        "NO9386011117947",
        "CH9300762011623852957",
    ],
)
def test_published_ibans(number: str) -> None:
    assert is_iban(number) and not is_iban(number + "0") and not is_iban("XX" + number[2:]) and not is_iban(number.lower())


@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.data())
def test_iban_finds_every_wrong_character(country: str, data: st.DataObject) -> None:
    length = IBAN_LENGTHS[country] - 4
    right = iban(country, data.draw(st.text("0123456789", min_size=length, max_size=length)))
    at = data.draw(st.integers(4, len(right) - 1))
    wrong = right[:at] + str((int(right[at]) + data.draw(st.integers(1, 9))) % 10) + right[at + 1 :]
    assert is_iban(right) and not is_iban(wrong)


def test_the_example_of_the_standard() -> None:
    assert is_resident("11010519491231002X") and is_resident("11010519491231002x")
    assert not is_resident("110105194912310021") and not is_resident("99010519491231002X")


@given(
    st.sampled_from(["110105", "310115", "440305", "650102"]), DAYS, st.integers(0, 999), st.integers(0, 16), st.integers(1, 9)
)
def test_resident_finds_every_wrong_digit(region: str, born: date, serial: int, at: int, more: int) -> None:
    right = resident(region, born, serial)
    assert is_resident(right)
    assert not is_resident(right[:at] + str((int(right[at]) + more) % 10) + right[at + 1 :])


@pytest.mark.parametrize("born", ["18991231", "20230229", "20231301", "20500101"])
def test_resident_was_born_some_day(born: str) -> None:
    assert not any(is_resident(f"110105{born}00{serial}{mark}") for serial in range(10) for mark in RESIDENT_MARKS)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("123456789", True),
        ("000456789", False),
        ("666456789", False),
        ("923456789", False),
        ("123006789", False),
        ("123450000", False),
    ],
)
def test_social_security_areas(number: str, expected: bool) -> None:
    assert is_social_security(number) == expected
