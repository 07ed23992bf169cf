"""Tokenizing JSON lines and nothing else: `datasets.map`, and `tokenizers` alone. Imports nothing of ours.

    python _tokenize_peers.py datasets|tokenizers CORPUS FOLDER TOKENIZER.json WORKERS

"datasets" reads the files into a data set and maps it in WORKERS processes, each with one thread; it leaves an Arrow data set.
"tokenizers" has the texts in memory, keeps nothing, and uses all threads. Prints JSON: tokens, seconds and processor seconds of
the tokenizing alone.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any


def main(which: str, corpus: Path, folder: Path, tokenizer: str, workers: int) -> None:
    files = sorted(map(str, corpus.glob("*.jsonl")))
    print(json.dumps((with_datasets if which == "datasets" else alone)(files, folder, tokenizer, workers)))


def encode(batch: dict[str, list[str]], tokenizer: Any, end: int) -> dict[str, list[list[int]]]:
    tokenizer.encode_special_tokens = True  # forgotten on the way to another process
    return {"ids": [[*e.ids, end] for e in tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)]}


def load(tokenizer: str) -> Any:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(tokenizer)
    loaded.encode_special_tokens = True
    return loaded


def with_datasets(files: list[str], folder: Path, tokenizer: str, workers: int) -> dict[str, Any]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if workers > 1 else "true"
    import datasets

    datasets.disable_progress_bars()
    read = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(folder), num_proc=workers)
    loaded = load(tokenizer)
    start = time.perf_counter()
    end = loaded.token_to_id("<|endoftext|>")
    mapped = read.map(
        partial(encode, tokenizer=loaded, end=end),
        batched=True,
        remove_columns=read.column_names,
        num_proc=workers,
    )
    seconds = time.perf_counter() - start
    return {"tokens": sum(len(chunk.flatten()) for chunk in mapped.data.column("ids").chunks), "seconds": seconds}


def alone(files: list[str], folder: Path, tokenizer: str, workers: int) -> dict[str, Any]:
    loaded = load(tokenizer)
    texts = [
        json.loads(line)["text"] for file in files for line in Path(file).read_text(encoding="utf-8").strip("\n").split("\n")
    ]
    start, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for first in range(0, len(texts), 1000):
        for encoding in loaded.encode_batch_fast(texts[first : first + 1000], add_special_tokens=False):
            tokens += len(encoding.ids) + 1
    return {"tokens": tokens, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    which, corpus, folder, tokenizer, workers = sys.argv[1:]
    main(which, Path(corpus), Path(folder), tokenizer, int(workers))
