"""Secrets are found in code of many kinds, and code that only speaks of secrets stays as it is."""

import random
import re
import string
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from genus.prepare.batches import batches_of
from genus.prepare.credentials import KEY_GATE, find_keys, is_random
from genus.prepare.items import Document
from genus.prepare.steps.secrets import KINDS, Secrets
from genus.prepare.steps.step import Outcome

LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def run(texts: list[str]) -> tuple[list[str], Outcome]:
    outcome = Secrets().ready()(next(batches_of(map(Document, texts))))
    return outcome.batch.column("text").to_pylist(), outcome


def rnd(dice: random.Random, count: int, of: str = LETTERS) -> str:
    return "".join(dice.choice(of) for _ in range(count))


FORMATS: dict[str, Callable[[random.Random], str]] = {
    "AWS": lambda d: "AKIA" + rnd(d, 16, string.ascii_uppercase + "234567"),
    "GitHub": lambda d: d.choice(["ghp_", "gho_", "ghs_"]) + rnd(d, 36),
    "GitHub fine": lambda d: "github_pat_" + rnd(d, 82, LETTERS + "_"),
    "GitLab": lambda d: "glpat-" + rnd(d, 20, LETTERS + "-"),
    "Slack": lambda d: f"xoxb-{rnd(d, 12, string.digits)}-{rnd(d, 12, string.digits)}-{rnd(d, 24)}",
    "Google": lambda d: "AIza" + rnd(d, 35, LETTERS + "_"),
    "Stripe": lambda d: "sk_live_" + rnd(d, 24),
    "OpenAI": lambda d: "sk-proj-" + rnd(d, 64, LETTERS + "_"),
    "Anthropic": lambda d: "sk-ant-api03-" + rnd(d, 93, LETTERS + "_") + "AA",
    "Hugging Face": lambda d: "hf_" + rnd(d, 34, string.ascii_letters),
    "npm": lambda d: "npm_" + rnd(d, 36),
    "PyPI": lambda d: "pypi-AgEIcHlwaS5vcmc" + rnd(d, 60, LETTERS + "_"),
    "SendGrid": lambda d: f"SG.{rnd(d, 22)}.{rnd(d, 43)}",
    "Telegram": lambda d: f"{rnd(d, 9, '123456789')}:AA{rnd(d, 33)}",
    "Databricks": lambda d: "dapi" + rnd(d, 32, HEX),
    "Alibaba Cloud": lambda d: "LTAI" + rnd(d, 20),
    "Azure": lambda d: f"AccountKey={rnd(d, 86)}==",
    "JSON Web Token": lambda d: f"eyJ{rnd(d, 30)}.eyJ{rnd(d, 60)}.{rnd(d, 43, LETTERS + '_')}",
}

PLACES = [
    'KEY = "{}"\n',
    "export X={}\n",
    "curl -H 'X: {}' https://host\n",
    '{{"a": "{}"}}',
    "// {}\n",
    "令牌是{}，请保密",
    "a,{},b",
]

VALUES = [
    'aws_secret_access_key = "{}"',
    "CLIENT_SECRET={}\n",
    '"password": "{}",',
    "const apiKey = `{}`;",
    "config['secret_key'] = '{}'",
    "Authorization: Bearer {}\n",
    'headers = {{"Authorization": "Bearer {}"}}',
    "auth_token: {}\n",
    "secret := b'{}'",
    "db.passphrase={}\n",
    '<add key="ApiToken" token="{}" />',
]

STAYS = [
    'api_key = "your-api-key-goes-here-12345"',
    'token = get_token_from_environment("X_1234567890")',
    'secret_key = os.environ["SECRET_KEY_2024_PRODUCTION"]',
    '"key": "123e4567-e89b-12d3-a456-426614174000"',
    'public_key = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALq9"',
    'cache_key = "v2:user:profile:1234567890123456"',
    "password: Password123456789",
    "key=lambda x1: x2.some_attribute_3",
    "token_type_ids = torch.tensor1.zeros2(3)",
    '"sha256": "f63dd3987c06e007865946898e5bfd36c693030942b9dba03eeb9caf3cc6086e"',
    "author = Z7x9Qw3Er5Ty1Ui8Op2As4",
    'keyboard = "LBzv3NLUS59VeFVpO9Ps"',
    "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALq9aG0xTT3PqLYk2\n-----END PUBLIC KEY-----",
    "http://user:password@host.com https://user:{password}@host https://u:$PASS@h",
    "key = 'layer1.block2.attention3.weight4'",
    "tokenizer = AutoTokenizer.from_pretrained('bert-base-v1-2-uncased')",
    "secret_name = 'projects/my-project-1/secrets/db-2'",
    "the secret: 16 characters are too many for a monkey",
    "git checkout 3f786850e387550fdab836ed7e6dc881de23001b",
    "seed key = 0x9E3779B97F4A7C15",
]


@pytest.mark.parametrize("name", FORMATS)
def test_published_formats(name: str) -> None:
    dice = random.Random(3)
    for _ in range(40):
        key, place = FORMATS[name](dice), dice.choice(PLACES)
        (text,), outcome = run([place.format(key)])
        assert text == place.format("<API_KEY>"), (key, text)
        assert outcome.counts == {"<API_KEY>": 1}
        assert re.search(KEY_GATE, key) and not list(find_keys(key[:-6] + "XXXXXXXXX" if name == "AWS" else key[:-30]))


@pytest.mark.parametrize("place", VALUES)
def test_random_values_beside_a_word(place: str) -> None:
    dice = random.Random(4)
    texts = [place.format(rnd(dice, dice.choice([24, 32, 40]), dice.choice([LETTERS, HEX, LETTERS + "+/"]))) for _ in range(200)]
    found, _ = run(texts)
    assert found.count(place.format("<SECRET>")) >= 190


def test_private_keys_and_passwords_in_addresses() -> None:
    dice = random.Random(5)
    lines = "\n".join(rnd(dice, 64, LETTERS + "+/") for _ in range(9))
    for kind in ("RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "PGP PRIVATE KEY BLOCK"):
        block = f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"
        assert run([f"a\n{block}\nb", f"cut off {block[:200]}"])[0] == ["a\n<PRIVATE_KEY>\nb", "cut off <PRIVATE_KEY>"]
    assert run(["postgres://admin:s3cr3t9x@db.host/x and https://a:Zq8!k@h.com"])[0] == [
        "postgres://admin:<PASSWORD>@db.host/x and https://a:<PASSWORD>@h.com"
    ]


@pytest.mark.parametrize("text", STAYS)
def test_stays(text: str) -> None:
    texts, outcome = run([text])
    assert texts == [text] and not outcome.changes


@pytest.mark.parametrize(
    ("of", "length", "least"), [(LETTERS, 16, 0.8), (LETTERS, 24, 0.95), (HEX, 32, 0.99), (LETTERS + "+/", 40, 0.95)]
)
def test_random_values_are_random(of: str, length: int, least: float) -> None:
    dice = random.Random(6)
    assert sum(is_random(rnd(dice, length, of)) for _ in range(500)) >= least * 500


NAMES = [
    "access_token_expires_in_3600",
    "ClientSecretCredentialProvider2",
    "2023-10-12T08:30:15.123456",
    "com.example.app2.KeyStore3",
    "win32api.RegEnumValue",
    "AutoModelForSequenceClassification1",
    "1234567890123456789012",
    "usr/share/keys2/private4/x",
    "aaaaaaaaaaaaaaaa1B2",
]


@pytest.mark.parametrize("value", NAMES)
def test_names_are_not_random(value: str) -> None:
    assert not is_random(value)


def test_the_excerpt_hides_the_secret() -> None:
    dice = random.Random(7)
    secret = rnd(dice, 32)
    _, outcome = run([f'a = 1\napi_key = "{secret}"\n'])
    (change,) = outcome.changes
    assert "<SECRET>" in change.after and secret[:2] in change.before and secret[2:-2] not in change.before


def test_code_of_the_standard_library_stays() -> None:
    """300 files that speak of keys, tokens and passwords hold none, except examples in comments; planted ones are found."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [file for file in sorted(folder.glob("*.py")) + sorted(folder.glob("*/*.py")) if "packages" not in file.parts]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files[:300]]
    dice = random.Random(8)
    planted = []
    for text in texts:
        lines = text.split("\n")
        lines.insert(dice.randrange(len(lines)), f'SECRET_TOKEN = "{rnd(dice, 40)}"')
        planted.append("\n".join(lines))
    changed, outcome = run(texts)
    assert changed == texts, outcome.changes[:3]
    found, _ = run(planted)
    assert sum('SECRET_TOKEN = "<SECRET>"' in text for text in found) >= 0.97 * len(texts)


def test_gates_open_to_all_that_is_found() -> None:
    """Without gates the finders find no more in lines made of everything above."""
    dice = random.Random(9)
    texts = [place.format(make(dice)) for make in FORMATS.values() for place in PLACES]
    texts += [place.format(rnd(dice, 40)) for place in VALUES for _ in range(20)]
    for kind in KINDS:
        gate = re.compile(kind.gate)
        for text in texts:
            assert not list(kind.find(text)) or gate.search(text), f"{kind.name}: the gate is closed to {text!r}"


HOSTILE = """
1- | +1 | a@ | a@a. | 1.1.1.1. | 4111 | key= | key="a | ://a:b | 2001: | 1 | A1 | eyJ. | 138 | (415) | -----BEGIN | 订单138
+1 (1 | -----BEGIN PRIVATE KEY----- | -----BEGIN PRIVATE KEY-----aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | password: 'aaaaaaaaaaaaaaaa
""".replace("\n", "|").split("|")


def test_hostile_repetition_is_read_in_linear_time() -> None:
    """100 kB of the beginning of everything: a rule that goes back and forth would not end."""
    from genus.prepare.steps.personal_data import PersonalData

    pieces = [piece for piece in HOSTILE if piece]
    batch = next(batches_of(Document(piece * (100_000 // len(piece))) for piece in pieces))
    for function in (Secrets().ready(), PersonalData().ready()):
        assert function(batch).batch.num_rows == len(pieces) > 20
