"""Keys, tokens and passwords in code and text: of published formats, and values that look random beside a telling word.

Formats are those that issuers made recognisable on purpose (a fixed beginning, a fixed length), so a match is hardly ever
anything else. A value without a known format must stand beside a word such as "secret" or "password", and be too irregular for
a name or an example: enough different characters, letters and digits mixed, no words in it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

FORMATS = {
    "AWS": r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    "GitHub": r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{82}",
    "GitLab": r"gl(?:pat|dt|rt|cbt|ptt|agent|soat)-[A-Za-z0-9_-]{20,64}",
    "Slack": r"xox[abeoprs]-[0-9A-Za-z]{4,}-[0-9A-Za-z-]{10,}",
    "Slack webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,}",
    "Google": r"AIza[0-9A-Za-z_-]{35}|GOCSPX-[0-9A-Za-z_-]{28}|ya29\.[0-9A-Za-z_-]{60,}",
    "Stripe": r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{24,99}|whsec_[0-9A-Za-z]{32,}",
    "OpenAI": r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|sk-[A-Za-z0-9]{48}",
    "Anthropic": r"sk-ant-[a-z]+[0-9]{2}-[A-Za-z0-9_-]{80,}",
    "Hugging Face": r"hf_[A-Za-z]{34}",
    "npm": r"npm_[A-Za-z0-9]{36}",
    "PyPI": r"pypi-AgE[A-Za-z0-9_-]{50,}",
    "SendGrid": r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "Twilio": r"SK[0-9a-f]{32}",
    "Telegram": r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    "DigitalOcean": r"do[opr]_v1_[a-f0-9]{64}",
    "Shopify": r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    "Databricks": r"dapi[a-f0-9]{32}",
    "Alibaba Cloud": r"LTAI[A-Za-z0-9]{16,26}",
    "Tencent Cloud": r"AKID[A-Za-z0-9]{32}",
    "Azure": r"AccountKey=[A-Za-z0-9+/]{86}==",
    "JSON Web Token": r"eyJ[A-Za-z0-9_-]{12,}\.eyJ[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{20,}",
}
"""Published formats by issuer."""

KEY_GATE = (
    r"AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox[abeoprs]-|hooks\.slack|AIza|GOCSPX-|ya29\.|[sr]k_(?:live|test)_"
    r"|whsec_|sk-|hf_|npm_|pypi-A|SG\.|SK[0-9a-f]{8}|:AA|do[opr]_v1_|shp[a-z]{2}_|dapi[a-f0-9]{8}|LTAI|AKID|AccountKey=|eyJ"
)
BLOCK_GATE = "PRIVATE KEY"
URL_GATE = r"://[^\s/:@]{1,64}:[^\s/@]{3,}@"
VALUE_GATE = (
    r"(?i:key|secret|token|passw|pwd|passphrase|credential|auth)[A-Za-z0-9_.\-\"'\])]{0,24}[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8}"
    r"[A-Za-z]{0,2}[\"'`]?(?:(?i:bearer|basic|token)[ \t]+)?[A-Za-z0-9+/_.~!@#$%^&*-]{16}"
)

_KEY = re.compile(rf"(?<![A-Za-z0-9_/+.-])(?:{'|'.join(FORMATS.values())})(?![A-Za-z0-9_])")
_BLOCK = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?)-----(?P<body>[^-]{20,20000}?)"
    r"(?:-----END (?P=kind)-----|\Z|(?=-----BEGIN))"
)
_URL = re.compile(r"://[^\s/:@\"'<>]{1,64}:(?P<value>[^\s/@:\"'<>]{3,128})@(?=[A-Za-z0-9\[])")
WORDS = ("key", "secret", "token", "passw", "pwd", "passphrase", "credential", "auth")
"""What a secret's name holds, in small letters."""

_VALUE = re.compile(
    r"[A-Za-z]{3,10}[A-Za-z0-9_.\-\"'\])]{0,24}[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8}(?:[A-Za-z]{1,2}(?=[\"'`]))?(?P<quote>[\"'`]?)"
    r"(?:(?:Bearer|Basic|Token|bearer|basic|token)[ \t]+)?(?P<value>[A-Za-z0-9+/_.~!@#$%^&*=-]{16,512})(?P<end>.?)"
)
_PLACEHOLDER = re.compile(
    r"x{4,}|\*{3,}|\.{3}|0{6,}|1234|abcd|example|sample|dummy|fake|mock|test|your|my[_-]|change|insert|replace|todo|none|null|default"
    r"|placeholder|redacted|undefined|enter|secret|passw|token|process\.env|getenv|environ|config|self\.|this\.",
    re.I,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.A)
_HEX = re.compile(r"(?=.{0,18}[a-f])[0-9a-f]{20,}|0x[0-9a-f]{40,}", re.I)
_PUBLIC = re.compile(
    r"public|primary|foreign|cache|sort|partition|license|fingerprint|integrity|checksum|hash|keyword|keyboard|author(?!iz)", re.I
)
_VOWEL = re.compile(r"[aeiou]", re.I)
_NAME_BEFORE = re.compile(r"[A-Za-z0-9_.-]*$")
_WORD = re.compile(r"[a-z]{5,}|[A-Z][a-z]{4,}|[A-Z]{6,}")

MIXED_BITS, HEX_BITS = 3.5, 3.0
"""Entropy of the characters of a value, in bits, from which it is random: random text of 16 letters and digits has 3.6 to 4."""


def find_keys(text: str) -> Iterator[tuple[int, int]]:
    """Places of keys of known formats."""
    for found in _KEY.finditer(text):
        if entropy(found[0]) >= HEX_BITS and not re.search(r"(?i)example|(.)\1{7}", found[0]):
            yield found.span()


def find_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Places of private keys in PEM and OpenPGP armour, whole blocks."""
    for found in _BLOCK.finditer(text):
        if len(re.sub(r"[^A-Za-z0-9+/]", "", found["body"])) >= 40:
            yield found.span()


def find_url_passwords(text: str) -> Iterator[tuple[int, int]]:
    """Places of passwords in addresses: `scheme://user:password@host`."""
    for found in _URL.finditer(text):
        value = found["value"]
        if not _PLACEHOLDER.search(value) and not re.search(r"[{}$%]|^(?:pass|pw|pwd|user|admin|root|guest)$", value):
            yield found.span("value")


def find_values(text: str) -> Iterator[tuple[int, int]]:
    """Places of values that look random and are assigned to something called key, secret, token, password ..."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a character that small letters write as two: then names in small letters only
        lowered = text
    for word in WORDS:
        at = lowered.find(word)
        while at >= 0:
            if (found := _VALUE.match(text, at)) and _is_value(text, at, found):
                yield found.span("value")
            at = lowered.find(word, at + len(word))


def _is_value(text: str, at: int, found: re.Match[str]) -> bool:
    if found["quote"]:
        if found["end"] != found["quote"]:
            return False
    elif found["end"] and found["end"] in "([{":  # a call or an index: code, not a value
        return False
    begin = at - len(_NAME_BEFORE.search(text, max(0, at - 32), at)[0])  # type: ignore[index]
    name = re.split(r"[\"'\])]*[ \t]*[:=]", text[begin : found.start("value")])[0]
    return not _PUBLIC.search(name) and is_random(found["value"])


def is_random(value: str) -> bool:
    """Whether a value is too irregular for a name, a path, a number or an example."""
    core = value.rstrip("=")
    if _UUID.fullmatch(core) or _PATH.fullmatch(core) or _PLACEHOLDER.search(core):
        return False
    if _HEX.fullmatch(core):
        return entropy(core.lower()) >= HEX_BITS
    digits, upper, lower = (sum(map(test, core)) for test in (str.isdigit, str.isupper, str.islower))
    if upper + lower < 4 or digits < (1 if min(upper, lower) > 1 else 2):
        return False
    if core.count(".") > 2 or core.count("/") > max(2, len(core) // 16):
        return False
    words = sum(len(word) for word in _WORD.findall(core) if 3 * len(_VOWEL.findall(word)) >= len(word))
    return entropy(core) >= MIXED_BITS and 3 * words <= len(core)


def entropy(text: str) -> float:
    """Shannon's entropy of the characters of a text, in bits for each."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0
