"""datatrove's MinHash removal over one file of JSON lines, in the interpreter that has datatrove; imports nothing of ours.

    python _datatrove_minhash.py INPUT.jsonl FOLDER LANGUAGE BANDS ROWS SHINGLE SEED

Prints one JSON object: ids of the documents dropped, processor seconds (with and without imports), version.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main(source: Path, folder: Path, language: str, bands: int, rows: int, shingle: int, seed: int) -> None:
    import jieba
    import spacy
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig(n_grams=shingle, num_buckets=bands, hashes_per_bucket=rows, seed=seed)
    signature = MinhashDedupSignature(output_folder=str(folder / "signatures"), config=config, language=language)
    jieba.initialize()
    spacy.blank("en")
    begin = time.process_time()

    def run(*steps: object, tasks: int = 1) -> None:
        executor = LocalPipelineExecutor(
            pipeline=list(steps), tasks=tasks, workers=1, logging_dir=str(folder / f"logs-{len(list(folder.glob('logs-*')))}")
        )
        executor.run()

    def read() -> JsonlReader:
        return JsonlReader(str(source.parent), glob_pattern=source.name)

    run(read(), signature)
    run(
        MinhashDedupBuckets(
            input_folder=str(folder / "signatures"),
            output_folder=str(folder / "buckets"),
            config=config,
            only_dedup_in_index=False,
        ),
        tasks=bands,
    )
    run(MinhashDedupCluster(input_folder=str(folder / "buckets"), output_folder=str(folder / "removed"), config=config))
    run(
        read(),
        MinhashDedupFilter(input_folder=str(folder / "removed"), exclusion_writer=JsonlWriter(str(folder / "excluded"))),
        JsonlWriter(str(folder / "kept")),
    )
    seconds = time.process_time() - begin
    dropped = []
    for file in (folder / "excluded").glob("*.jsonl.gz"):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            dropped += [json.loads(line)["id"] for line in lines]
    print(json.dumps({"dropped": dropped, "seconds": seconds, "version": version("datatrove")}))


if __name__ == "__main__":
    source, folder, language, *numbers = sys.argv[1:]
    main(Path(source), Path(folder), language, *map(int, numbers))
