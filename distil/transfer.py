"""The labelled transfer set on disk: Parquet shards of sentences and the teacher's logits, written and read one at a time.

A shard appears whole or not at all, so a run that was stopped labels only the shards that are missing.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distil.augment import Sample
from distil.packages import sha256
from distil.words import MASK, to_text

SHARD_ROWS = 50_000
Predict = Callable[[list[list[str]]], np.ndarray]  # one or two lists of N texts -> logits [N, labels]


def write_labelled(
    samples: Iterable[Sample],
    predict: Predict,
    folder: Path,
    *,
    identity: str,
    mask_token: str = MASK,
    shard_rows: int = SHARD_ROWS,
) -> int:
    """Label the samples with the teacher and write them to ``folder/part-*.parquet``.

    Args:
        samples: as ``augment.transfer_set`` yields them; a given identity must yield the same samples again.
        identity: whatever the samples and the teacher depend on; shards of another identity are thrown away.
        mask_token: how the teacher writes a mask.

    Returns:
        Number of samples.
    """
    mark = folder / "identity.json"
    if not mark.exists() or mark.read_text(encoding="utf-8") != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(identity, encoding="utf-8")
    total = 0
    for number, shard in enumerate(_batched(samples, shard_rows)):
        total += len(shard)
        path = folder / f"part-{number:05d}.parquet"
        if path.exists():
            continue
        columns = list(zip(*(sample.sentences for sample in shard), strict=True))
        logits = predict([[to_text(words, mask_token) for words in column] for column in columns])
        table = {
            "idx": pa.array([s.idx for s in shard], pa.int32()),
            "kind": pa.array([s.kind for s in shard], pa.int8()),
        }
        for name, column in zip(("sentence1", "sentence2"), columns, strict=False):
            table[name] = pa.array([" ".join(words) for words in column])
        table["logits"] = pa.array(list(logits), pa.list_(pa.float32()))
        part = path.with_suffix(".part")
        pq.write_table(pa.table(table), part, compression="zstd")
        part.replace(path)
    return total


def _batched(samples: Iterable[Sample], size: int) -> Iterable[list[Sample]]:
    iterator = iter(samples)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def read(folder: Path) -> pa.Table:
    """The whole labelled set: columns ``idx``, ``kind`` (0 real, 1 synthetic), ``sentence1``, [``sentence2``,] ``logits``.

    Raises:
        FileNotFoundError: 03_transfer_set has not run.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise FileNotFoundError(
            f"no transfer set in {folder.parent.name}/{folder.name}: run notebooks/03_transfer_set.ipynb for it, "
            "or 'make reproduce'"
        )
    return pa.concat_tables([pq.read_table(part) for part in parts])


def logits(table: pa.Table) -> np.ndarray:
    """The teacher's logits of a transfer set, float32 [N, labels]."""
    column = table.column("logits").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1).copy()  # Arrow's own memory is read-only


def digest(folder: Path) -> str:
    """One sha256 over the shards."""
    return hashlib.sha256(
        json.dumps([sha256(path) for path in sorted(folder.glob("part-*.parquet"))]).encode()
    ).hexdigest()
