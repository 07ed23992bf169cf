"""How fast `genus prepare` is, and whether its memory stays flat.

    python benchmarks/prepare.py [CORPUS.txt] [--megabytes 10] [--rounds 2] [--memory 10 100]

Speed: the same text, cut into the same documents, is tokenized with the same byte-level BPE by `genus prepare` (from the file to
the finished folder, tokenizer given), by `tokenizers` alone (`encode_batch_fast`, text already in memory, nothing written) and by
`datasets.map` (when installed), in turns. Memory: the largest resident size of `genus prepare` and workers, for corpora of
the sizes given, made by shuffling lines.

Wall-clock on a shared machine is noise, so CPU seconds (children included) stand beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

SHARED = Path(os.environ.get("GENUS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", type=Path, default=SHARED / "wikitext2_valid_test" / "test.txt")
    parser.add_argument("--megabytes", type=float, default=10, help="of the corpus used for the speed table")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", type=float, nargs="*", default=[], help="megabytes of the corpora of the memory table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speed(arguments.corpus, int(arguments.megabytes * 1e6), arguments.rounds, Path(folder))
        for megabytes in arguments.memory:
            memory(arguments.corpus, int(megabytes * 1e6), Path(folder))


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


def memory(corpus: Path, size: int, folder: Path) -> None:
    """Print the largest resident memory of `genus prepare`, all stages, on a corpus of this size."""
    grown = folder / "grown.txt"
    lines = beginning(corpus, min(size, 20_000_000)).splitlines(keepends=True)
    dice = random.Random(0)
    written = 0
    with open(grown, "w", encoding="utf-8") as file:
        while written < size:
            dice.shuffle(lines)
            for line in lines:
                written += len(line.encode())
                file.write(line)
                if written >= size:
                    break
    shutil.rmtree(folder / "out", ignore_errors=True)
    peak = 0
    process = subprocess.Popen(
        [sys.executable, "-m", "genus.cli", "prepare", str(grown), "-o", str(folder / "out"), "--vocab", "8192", "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    largest: dict[str, int] = {}

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            sizes = {name: resident(pid) for name, pid in family(process.pid)}
            peak = max(peak, sum(sizes.values()))
            for name, value in sizes.items():
                largest[name] = max(largest.get(name, 0), value)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"genus prepare failed with {process.returncode}")
    print(
        f"{grown.stat().st_size / 1e6:8.1f} MB: all processes together {peak / 1e6:.0f} MB; "
        f"largest: main {largest.get('main', 0) / 1e6:.0f} MB, worker {largest.get('worker', 0) / 1e6:.0f} MB"
    )


def family(pid: int) -> list[tuple[str, int]]:
    """The process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [("main", pid), *(("worker", int(child)) for child in children)]


def resident(pid: int) -> int:
    """Resident bytes of a process, without pages of files."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


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
