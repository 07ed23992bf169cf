"""How fast `genus prepare` is.

    python benchmarks/prepare.py [CORPUS.txt] [--megabytes 10] [--rounds 2]

Speed: the same text, cut into the same documents, is tokenized with the same byte-level BPE by `genus prepare` (from the file to
the finished folder, tokenizer given), by `tokenizers` alone (`encode_batch_fast`, text already in memory, nothing written) and by
`datasets.map` (when installed), in turns.

Wall-clock on a shared machine is noise, so CPU seconds (children included) stand beside it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHARED = Path(os.environ.get("GENUS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", type=Path, default=SHARED / "wikitext2_valid_test" / "test.txt")
    parser.add_argument("--megabytes", type=float, default=10, help="of the corpus used for the speed table")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speed(arguments.corpus, int(arguments.megabytes * 1e6), arguments.rounds, Path(folder))


def speed(corpus: Path, size: int, rounds: int, folder: Path) -> None:
    """Print MB/s of ours and the peers, alternating."""
    text = beginning(corpus, size)
    size = len(text.encode())
    (folder / "text.txt").write_text(text, encoding="utf-8")
    documents = [paragraph for paragraph in text.split("\n") if paragraph.strip()]
    genus("prepare", folder / "text.txt", "-o", folder / "trained", "--split-documents", "line")
    tokenizer = folder / "trained" / "tokenizer"
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        rows.setdefault("genus prepare, file to folder", []).append(measure(lambda: ours(folder, tokenizer)))
        rows.setdefault("tokenizers, batch-fast", []).append(measure(lambda: plain_tokenizers(documents, tokenizer)))
        try:
            import datasets  # noqa: F401
        except ModuleNotFoundError:
            continue
        rows.setdefault("datasets.map, batched", []).append(measure(lambda: datasets_map(documents, tokenizer)))
    print(
        f"{size / 1e6:.1f} MB of {corpus.name}, {len(documents):,} documents, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':<32}{'MB/s':>8}{'MB per CPU second':>20}")
    for name, times in rows.items():
        wall, cpu = (min(column) for column in zip(*times, strict=True))
        print(f"{name:<32}{size / wall / 1e6:>8.2f}{size / cpu / 1e6:>20.2f}")


def ours(folder: Path, tokenizer: Path) -> None:
    shutil.rmtree(folder / "out", ignore_errors=True)
    genus("prepare", folder / "text.txt", "-o", folder / "out", "--split-documents", "line", "--tokenizer", tokenizer)


def plain_tokenizers(documents: list[str], tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    for start in range(0, len(documents), 1000):
        for encoding in encoder.encode_batch_fast(documents[start : start + 1000], add_special_tokens=False):
            _ = encoding.ids


def datasets_map(documents: list[str], tokenizer: Path) -> None:
    import datasets
    from tokenizers import Tokenizer

    datasets.disable_progress_bars()
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [e.ids for e in encoder.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    datasets.Dataset.from_dict({"text": documents}).map(encode, batched=True, remove_columns=["text"], load_from_cache_file=False)


def beginning(corpus: Path, size: int) -> str:
    """About the first `size` bytes, whole lines."""
    with open(corpus, "rb") as file:
        raw = file.read(size)
    return raw[: raw.rfind(b"\n") + 1].decode("utf-8", "replace")


def genus(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "genus.cli", *map(str, arguments), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def measure(work: Callable[[], None]) -> tuple[float, float]:
    """Wall-clock and CPU seconds, children included."""

    def cpu() -> float:
        usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start, before = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - start, cpu() - before


if __name__ == "__main__":
    main()
