"""datatrove's rules of quality on texts, in the interpreter that has datatrove; imports nothing of ours.

    python _datatrove_rules.py TEXTS.json words|whitespace

TEXTS.json: a list of texts. Prints JSON: for each rule set what became of every text (null: kept), and seconds of processor time.
"whitespace" puts str.split in the place of datatrove's word tokenizer (spaCy), to compare the rules apart from what a word is.
"""

import json
import sys
import time
from importlib.metadata import version
from typing import Any


def main(path: str, words: str) -> None:
    from datatrove.data import Document
    from datatrove.pipeline import filters
    from datatrove.pipeline.filters import fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter

    if words == "whitespace":
        modules: Any = (fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter)
        for module in modules:
            module.split_into_words = lambda text, language: text.split()
    rules = {
        "gopher": filters.GopherQualityFilter(),
        "repetition": filters.GopherRepetitionFilter(),
        "c4": filters.C4QualityFilter(),
        "fineweb": filters.FineWebQualityFilter(char_duplicates_ratio=0.1),
    }
    with open(path, encoding="utf-8") as file:
        texts = json.load(file)
    told: dict[str, Any] = {"version": version("datatrove")}
    for name, rule in rules.items():
        rule.filter(Document(text=texts[0], id="0"))  # loads the tokenizer
        start, reasons = time.process_time(), []
        for i, text in enumerate(texts):
            result = rule.filter(Document(text=text, id=str(i)))
            reasons.append(None if result is True else result[1] if isinstance(result, tuple) else "dropped")
        told[name] = {"reasons": reasons, "seconds": time.process_time() - start}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
