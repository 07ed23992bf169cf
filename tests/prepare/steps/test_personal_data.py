"""Personal data is found where it was planted, in English and Chinese text, and what only looks like it stays."""

import gzip
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from genus.prepare import steps
from genus.prepare.batches import batches_of
from genus.prepare.check_digits import IBAN_LENGTHS, RESIDENT_MARKS, RESIDENT_WEIGHTS, luhn
from genus.prepare.items import Document
from genus.prepare.steps.personal_data import KINDS, PersonalData
from genus.prepare.steps.step import Outcome


def run(texts: list[str], **settings: tuple[str, ...]) -> tuple[list[str], Outcome]:
    outcome = PersonalData(**settings).ready()(next(batches_of(map(Document, texts))))
    return outcome.batch.column("text").to_pylist(), outcome


MASKED = [
    ("Write to joe.smith+news@mail.example.com, please.", "Write to <EMAIL>, please."),
    ("请发邮件至zhang.san@163.com谢谢", "请发邮件至<EMAIL>谢谢"),
    ("Mail a@b.co.uk.Then wait.", "Mail <EMAIL>.Then wait."),
    ("Call +1 (415) 555-2671 or +44 (0)20 7946 0958.", "Call <PHONE> or <PHONE>."),
    ("tel:+4930123456; fax +49 30 1234567", "tel:<PHONE>; fax <PHONE>"),
    ("Phone: (412) 268 4387, fax (412)268-5739", "Phone: <PHONE>, fax <PHONE>"),
    ("1-800-555-2671, (415) 555-2671, 415-555-2671, 415.555.2671", "<PHONE>, <PHONE>, <PHONE>, <PHONE>"),
    ("联系电话13800138000，或139-1234-5678", "联系电话<PHONE>，或<PHONE>"),
    ("+86 138-0013-8000, 8613912345678, 0086 13912345678", "<PHONE>, <PHONE>, <PHONE>"),
    ("my mobile: 13912345678.", "my mobile: <PHONE>."),
    ("Visa 4111 1111 1111 1111, Amex 3782 822463 10005, 5555-5555-5555-4444.", "Visa <CARD>, Amex <CARD>, <CARD>."),
    ("卡号6222020000000000001", "卡号6222020000000000001"),  # a wrong check digit
    ("卡号4111111111111111。", "卡号<CARD>。"),
    ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF, GB29NWBK60161331926819", "IBAN <IBAN> BIC COBADEFF, <IBAN>"),
    ("身份证号11010519491231002X，请核对", "身份证号<ID>，请核对"),
    ("SSN 123-45-6789; Social Security No. 123456789.", "SSN <SSN>; Social Security No. <SSN>."),
    ("from 93.184.216.34:80 and ip 8.8.4.4, 2001:4860:4860::8888.", "from <IP>:80 and ip <IP>, <IP>."),
    ("服务器地址8.8.8.8上", "服务器地址<IP>上"),
    ('68.39.174.238 - - [10/Oct/2000:13:55:36] "GET /"', '<IP> - - [10/Oct/2000:13:55:36] "GET /"'),
]

STAYS = [
    "Version 1.2.3.4 of 10.11.12.13 was v8.8.8.8; pip install x==20.30.40.50, see section 2.16.20.1.",
    "Flash 11.2.202.235, Chrome 96.0.4664.110, 版本 3.6.13.1, 1.2.3.4.5, 0.1.2.3, 256.1.2.3",
    "Private: 10.0.0.1, 192.168.1.1, 127.0.0.1, fe80::1, 2001:db8::1, ::1, 12:30:45, std::vector, 00:1A:2B:3C:4D:5E",
    "ISBN 978-3-16-148410-0, 9783161484100, 0-306-40615-2; ISSN 1234-5679; 2023-10-12, 12.10.2023, 1998-1999, 20231012123456",
    "订单号：13812345678，编号13812345678，约15000000000元，QQ:13812345678",
    "13812345678 bytes are 13.8 GB, not 13800000000; timestamps 1609459200 and 1609459200123",
    "range -922337203685477.5808 to +922337203685477.5807, +500 000 000 people, x+4930123456, C++11",
    "years 4000 4500 5000 5500 and 4111 1111 1111 1111 1111; 0.4111111111111111; 4111111111111112",
    "q@k.transpose(1, 2), a@b.T, icon@2x.png, git@github.com:owner/repo.git, @handle, react@18.2.0, x@y.to(device)",
    "serial 123-45-67890, 000-12-3456, 666-12-3456, 900-12-3456, 911-555-1234, 415-155-2671, 110105194912310021",
    "Clause 252.227-7013 (c) (1) of DFARs, 252-227.7013",
    "DE88 3704 0044 0532 0130 00, 550e8400-e29b-41d4-a716-446655440000, 3.14159265358979323846",
]


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_masked(text: str, expected: str) -> None:
    assert run([text])[0] == [expected]


@pytest.mark.parametrize("text", STAYS)
def test_stays(text: str) -> None:
    texts, outcome = run([text])
    assert texts == [text] and not outcome.changes and not outcome.counts


def test_kinds_are_chosen() -> None:
    text = "joe@example.com, +1 415 555 2671, ip 8.8.8.8"
    assert run([text], kinds=("phone",))[0] == ["joe@example.com, <PHONE>, ip 8.8.8.8"]
    assert steps.parse(["personal-data:kinds=email+ip"]) == (PersonalData(("email", "ip")),)
    with pytest.raises(ValueError, match="did you mean 'phone'"):
        PersonalData(("phones",))


def test_reasons_and_counts() -> None:
    _, outcome = run(["a@b.com and c@d.com", "clean", "ip 8.8.8.8 of e@f.org"])
    assert [(change.row, change.reason) for change in outcome.changes] == [
        (0, "e-mail address masked"), (2, "IP address masked"), (2, "e-mail address masked"),
    ]  # fmt: skip
    assert outcome.counts == {"<EMAIL>": 3, "<IP>": 1}


def test_pairs_are_masked_on_both_sides() -> None:
    batch = next(batches_of([Document("Mail a@b.com", source="邮箱a@b.com")], pairs=True))
    outcome = PersonalData().ready()(batch)
    assert outcome.batch.to_pylist()[0]["text"] == "Mail <EMAIL>" and outcome.batch.to_pylist()[0]["source_text"] == "邮箱<EMAIL>"


def digits(dice: random.Random, count: int) -> str:
    return "".join(dice.choice(string.digits) for _ in range(count))


def card(dice: random.Random) -> str:
    first = dice.choice(["4", "51", "2400", "62"])
    body = first + digits(dice, 15 - len(first))
    whole = next(body + last for last in string.digits if luhn(body + last))
    blank = dice.choice(["", " ", "-"])
    return blank.join(whole[i : i + 4] for i in range(0, 16, 4))


def iban(dice: random.Random) -> str:
    country = dice.choice(["DE", "FR", "ES", "GB", "NL"])
    account = digits(dice, IBAN_LENGTHS[country] - 4)
    rest = int("".join(str(int(each, 36)) for each in f"{account}{country}00")) % 97
    whole = f"{country}{98 - rest:02d}{account}"
    return whole if dice.random() < 0.5 else " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))


def resident(dice: random.Random) -> str:
    born = f"{dice.randint(1940, 2010)}{dice.randint(1, 12):02d}{dice.randint(1, 28):02d}"
    first = f"{dice.choice(['110105', '310115', '440305'])}{born}{digits(dice, 3)}"
    return first + RESIDENT_MARKS[sum(int(d) * w for d, w in zip(first, RESIDENT_WEIGHTS, strict=True)) % 11]


def address(dice: random.Random) -> str:
    return "IP: " + dice.choice(["93.184.", "8.8.", "151.101.", "47.95."]) + f"{dice.randint(1, 254)}.{dice.randint(1, 254)}"


def mobile(dice: random.Random) -> str:
    return (
        "电话："
        + dice.choice(["138", "159", "186", "199"])
        + dice.choice("123456789")
        + digits(dice, 6)
        + dice.choice("123456789")
    )


def american(dice: random.Random) -> str:
    return f"+1 {dice.randint(212, 899)}-{dice.randint(220, 899)}-{digits(dice, 4)}"


def email(dice: random.Random) -> str:
    return (
        f"{dice.choice(['li.wei', 'anna_k', 'j2'])}{digits(dice, 2)}@{dice.choice(['qq.com', 'mail.example.org', 'uni-ulm.de'])}"
    )


PLANTED: dict[str, Callable[[random.Random], str]] = {
    "<EMAIL>": email, "<CARD>": card, "<IBAN>": iban, "<ID>": resident, "<PHONE>": american, "<IP>": address,
    "<SSN>": lambda dice: f"{dice.randint(100, 600)}-{dice.randint(10, 99)}-{dice.randint(1000, 9999)}",
}  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_precision_and_recall_on_real_text(language: str, shared_data: Path) -> None:
    """4,000 real paragraphs, a thing planted in every second: all are found but a few, and nothing else is."""
    dice = random.Random(5)
    with gzip.open(shared_data / "libreoffice_help_en_zh" / "en-zh.tsv.gz", "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t")[language == "zh"] for line in file][:4000]
    if language == "en":
        lines[3000:] = (shared_data / "wikitext2_valid_test" / "valid.txt").read_text(encoding="utf-8").splitlines()[:1000]
    else:
        with gzip.open(shared_data / "tang_poetry" / "shi_tang.txt.gz", "rt", encoding="utf-8") as file:
            lines[3000:] = file.read(2_000_000).split("\n\n")[:1000]
    makers = PLANTED | ({"<PHONE>": mobile} if language == "zh" else {})
    texts, expected = [], []
    for number, line in enumerate(lines):
        if number % 2:
            texts.append(line)
            expected.append(line)
            continue
        mask, make = dice.choice(sorted(makers.items()))
        thing = make(dice)
        prefix, colon, thing = thing.rpartition(": ") if ": " in thing else thing.rpartition("：")
        cut = (
            dice.choice([i for i, each in enumerate(line + " ") if each == " "])
            if language == "en"
            else dice.randint(0, len(line))
        )
        left, right = f"{line[:cut]} {prefix}{colon}", f" {line[cut:].lstrip()}"
        texts.append(left + thing + right)
        expected.append(left + mask + right)
    found, outcome = run(texts)
    right = [a == b for a, b in zip(found, expected, strict=True)]
    planted, clean = right[::2], right[1::2]
    assert sum(planted) >= 0.985 * len(planted), [(a, b) for a, b, ok in zip(found, expected, right, strict=True) if not ok][:5]
    assert all(clean), [a for a, ok in zip(found, right, strict=True) if not ok][:5]
    assert set(outcome.counts) == set(makers)


def test_every_gate_lets_its_things_through() -> None:
    """The gates must not be narrower than the finders, or things would be missed in silence."""
    import re

    dice = random.Random(1)
    for mask, make in {**PLANTED, "mobile": mobile}.items():
        kind = next(kind for kind in KINDS.values() if kind.mask == ("<PHONE>" if mask == "mobile" else mask))
        for _ in range(300):
            thing = make(dice)
            assert list(kind.find(thing)), f"{thing!r} is not found as {kind.name}"
            assert re.search(kind.gate.replace("(?i:ssn", "(?:ssn"), thing), f"{kind.name}: the gate is closed to {thing!r}"
