"""Repair of garbled text: what ftfy does, only where it is needed."""

import unicodedata

import ftfy
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.step import Outcome
from genus.prepare.steps.unicode import Unicode, matches, suspicious, unsettled

RUN = Unicode().ready()
CONFIG = ftfy.TextFixerConfig(explain=False, uncurl_quotes=False, fix_character_width=False, normalization="NFC")


def run(*texts: str) -> Outcome:
    return RUN(next(batches_of(Document(text) for text in texts)))


def one(text: str) -> str:
    found = run(text).batch.column("text").to_pylist()
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("garbled", "repaired"),
    [
        ("un cafÃ© crÃ¨me", "un café crème"),
        ("itâ€™s â€œfineâ€\x9d", "it’s “fine”"),
        ("å…¨å›½äººæ°‘", "全国人民"),
        ("cafe\u0301", "café"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\ufeffBOM and \x1b[31mred\x1b[0m and nul\x00", "BOM and red and nul"),
        ("ﬁsh &amp; chips", "fish & chips"),
        ("<b>fish</b> &amp; chips", "<b>fish</b> &amp; chips"),
        ("“curly” ‘quotes’ — stay…", "“curly” ‘quotes’ — stay…"),
        ("全角，标点。！（ＡＢＣ）", "全角，标点。！（ＡＢＣ）"),
        ("各\u3000位", "各\u3000位"),
    ],
)
def test_text_is_repaired(garbled: str, repaired: str) -> None:
    assert one(garbled) == repaired


def test_changes_are_told_and_clean_batches_are_not_touched() -> None:
    documents = next(batches_of(map(Document, ["clean", "schÃ¶n", "干净", "naïve"])))
    outcome = RUN(documents)
    assert [(change.row, change.reason, change.after) for change in outcome.changes] == [(1, "Unicode repaired", "schön")]
    clean = next(batches_of(map(Document, ["clean", "干净", "naïve — été"])))
    assert RUN(clean).batch is clean


def test_nothing_but_rubbish_is_dropped() -> None:
    assert [drop.reason for drop in run("\x00\x01", "text").drops] == ["Unicode repaired: nothing left"]


def test_both_sides_of_pairs_are_repaired() -> None:
    documents = next(batches_of([Document("schÃ¶n", source="cafÃ©")], pairs=True))
    batch = RUN(documents).batch
    assert (batch.column("text")[0].as_py(), batch.column("source_text")[0].as_py()) == ("schön", "café")


def test_settings_choose_the_form_and_whether_to_repair() -> None:
    documents = next(batches_of([Document("cafe\u0301 Ã© ①")]))

    def text(step: Unicode) -> str:
        return step.ready()(documents).batch.column("text")[0].as_py()

    assert text(Unicode(repair=False)) == "café Ã© ①"
    assert text(Unicode(repair=False, form="none")) == "cafe\u0301 Ã© ①"
    assert text(Unicode(repair=False, form="NFKC")) == "café Ã© 1"


LETTERS = st.text(st.characters(codec="utf-8", max_codepoint=0x24F) | st.sampled_from("éüß中文“”’—… \n<&;ЯΩ"), max_size=12)
WRONG = st.sampled_from(["latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso8859-2", "macroman", "cp437"])


@st.composite
def garbled(draw: st.DrawFn) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        text = draw(LETTERS)
        parts.append(text.encode().decode(draw(WRONG), "replace") if draw(st.booleans()) else text)
    return "".join(parts).replace("\xa0", draw(st.sampled_from("\xa0 ")))


@settings(max_examples=150, deadline=None)
@given(garbled() | st.text(max_size=40))
@example("Â tout Ã  l'heure")
@example("&amp;\n<\n&amp;")
@example("\u1100\u1161\u11a8")
def test_the_quick_way_gives_what_ftfy_gives(text: str) -> None:
    expected = ftfy.fix_text(text, CONFIG)
    if text.strip():
        assert one(text) == (expected if expected.strip() else "")
    column = pa.array([text], type=pa.large_string())
    if not matches(column, f"{suspicious()}|{unsettled('NFC')}"):
        assert expected == text


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["NFC", "NFKC"]))
def test_a_text_without_unsettled_characters_is_normal(text: str, form: str) -> None:
    if not matches(pa.array([text], type=pa.large_string()), unsettled(form)):
        assert unicodedata.normalize(form, text) == text  # type: ignore[arg-type]
