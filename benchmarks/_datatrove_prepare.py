"""datatrove's local executor from JSON lines to tokens, in the interpreter that has datatrove; imports nothing of ours.

    python _datatrove_prepare.py CORPUS FOLDER TOKENIZER.json LANGUAGE-MODEL.ftz WORKERS

In the order of FineWeb, and as FineWeb-2 does it each language by itself: ftfy, language, filters (the word tokenizers and the
lengths of FineWeb-2 for Chinese), one file per language; MinHash in four stages; e-mail and IP addresses; tokens. Nothing but
duplicates is written of what is dropped, nothing is compressed, and documents are not shuffled. Prints JSON: of every step the
bytes that entered it and its seconds in all tasks together; documents and tokens that are left.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline import filters
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.word_tokenizers import load_word_tokenizer

LANGUAGES = {"en": "eng", "zh": "zho_Hani"}
CHINESE_WORDS = list("的在是和了於于有被人中為为他與与後后也而由")
METER = "bytes that enter "


class Meter(PipelineStep):
    """Counts the bytes that go by."""

    type = "METER"

    def __init__(self, of: str):
        self.name = METER + of
        super().__init__()

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        for document in data:
            self.stat_update("bytes", value=len(document.text.encode()))
            yield document


class ByLanguage(BaseFilter):
    """A filter of its own for each language."""

    def __init__(self, each: dict[str, BaseFilter]):
        self.name = next(iter(each.values())).name
        super().__init__()
        self.each = each

    def filter(self, doc: Any) -> Any:
        return self.each[doc.metadata["language"]].filter(doc)


def metered(steps: dict[str, Any]) -> list[Any]:
    return [each for name, step in steps.items() for each in (Meter(name), step)]


def both(filter_class: Any, chinese: dict[str, Any], **settings: Any) -> ByLanguage:
    each = {"en": filter_class(language=LANGUAGES["en"], **settings)}
    return ByLanguage(each | {"zh": filter_class(language=LANGUAGES["zh"], **(settings | chinese))})


def cleaning(model: str) -> list[Any]:
    language = filters.LanguageFilter(languages=list(LANGUAGES), language_threshold=0.5)
    language.model.MODEL_URL = model
    gopher = {"min_avg_word_length": 1, "max_avg_word_length": 10, "stop_words": CHINESE_WORDS}
    return metered(
        {
            "unicode": FTFYFormatter(fix_latin_ligatures=True, fix_line_breaks=True, normalization="NFC"),
            "language": language,
            "repetition": both(filters.GopherRepetitionFilter, {}),
            "gopher": both(filters.GopherQualityFilter, gopher),
            "c4": both(filters.C4QualityFilter, {}, filter_no_terminal_punct=False),
            "fineweb": both(
                filters.FineWebQualityFilter, {"short_line_thr": 999, "new_line_ratio": 999}, char_duplicates_ratio=0.1
            ),
        }
    )


def main(corpus: Path, folder: Path, tokenizer: str, model: str, workers: int) -> None:
    tasks = len(list(corpus.glob("*.jsonl")))
    told: list[list[dict[str, Any]]] = []

    def run(name: str, *steps: Any, number: int = tasks) -> None:
        logs = folder / "logs" / name
        LocalPipelineExecutor(list(steps), tasks=number, workers=min(workers, number), logging_dir=str(logs)).run()
        told.append(json.loads((logs / "stats.json").read_text(encoding="utf-8")))
        load_word_tokenizer.cache_clear()  # one that has been used cannot be copied, as a pipeline of a single worker is

    def written(name: str, file: str = "${rank}.jsonl") -> JsonlWriter:
        return JsonlWriter(str(folder / name), output_filename=file, compression=None)

    run("clean", JsonlReader(str(corpus)), *cleaning(model), written("cleaned", "${language}/${rank}.jsonl"))
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, seed=1)
    for short, language in LANGUAGES.items():
        source, made = folder / "cleaned" / short, str(folder / f"minhash-{short}")
        if not source.exists():
            continue
        signature = MinhashDedupSignature(output_folder=f"{made}/signatures", config=config, language=language)
        run(f"signature-{short}", JsonlReader(str(source)), *metered({"near-duplicates": signature}))
        buckets = MinhashDedupBuckets(f"{made}/signatures", f"{made}/buckets", config=config, only_dedup_in_index=False)
        run(f"buckets-{short}", buckets, number=14)
        run(f"cluster-{short}", MinhashDedupCluster(f"{made}/buckets", f"{made}/removed", config=config), number=1)
        run(
            f"tokens-{short}",
            JsonlReader(str(source)),
            MinhashDedupFilter(f"{made}/removed", exclusion_writer=written(f"excluded/{short}")),
            *metered(
                {
                    "personal-data": PIIFormatter(),
                    "tokenize": DocumentTokenizer(
                        str(folder / "tokens" / short), tokenizer, eos_token="<|endoftext|>", shuffle_documents=False
                    ),
                }
            ),
        )
    steps, tokens = summary(told)
    print(json.dumps({"version": version("datatrove"), "steps": steps, "tokens": tokens}))


def summary(told: list[list[dict[str, Any]]]) -> tuple[dict[str, list[float]], int]:
    """{step: [bytes that entered, seconds]}; tokens."""
    steps: dict[str, list[float]] = {}
    tokens = 0
    for pipeline in told:
        inside = 0.0  # what a step that pulls all documents by itself has waited for
        name = None
        for stats in pipeline:
            seconds = float(stats["time_stats"] and stats["time_stats"]["total"])
            if METER in stats["name"]:
                name = stats["name"].partition(METER)[2]
                steps.setdefault(name, [0, 0.0])[0] += total(stats["stats"]["bytes"])
            else:
                if "Jsonl" in stats["name"]:
                    inside += seconds
                name, of = None, name
                if of is None and "DEDUP" in stats["name"]:
                    of = "near-duplicates"
                if of is None:
                    of = "read, write"
                    steps.setdefault(of, [0, 0.0])
                signature = of == "near-duplicates" and pipeline[0] is not stats and "signature" in stats["name"].lower()
                steps[of][1] += seconds - inside if signature else seconds
            tokens += total(stats["stats"].get("tokens", 0))
    return steps, tokens


def total(value: Any) -> int:
    return int(value["total"] if isinstance(value, dict) else value)


if __name__ == "__main__":
    corpus, folder, tokenizer, model, workers = sys.argv[1:]
    main(Path(corpus), Path(folder), tokenizer, model, int(workers))
