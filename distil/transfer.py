"""Writes and reads the labelled transfer set: Parquet shards of sentences and teacher logits."""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distil import records
from distil.augment import REAL, Sample
from distil.words import to_text

Predict = Callable[[list[list[str]]], np.ndarray]  # 1 or 2 lists of N texts -> logits [N, labels]


def write_labelled(
    samples: Iterable[Sample], predict: Predict, folder: Path, *, mask_token: str, shard_rows: int
) -> tuple[int, float]:
    """Label samples and write them to ``folder/part-*.parquet``; whole shards are kept.

    Returns the number of samples, and the seconds that the shards of earlier runs took.
    """
    samples, total, earlier = iter(samples), 0, 0.0
    with records.whole_folder(folder) as part:
        for number in itertools.count():
            if not (shard := list(itertools.islice(samples, shard_rows))):
                return total, earlier
            total += len(shard)
            earlier += _write_shard(shard, predict, part / f"part-{number:05d}.parquet", mask_token)


def _write_shard(shard: list[Sample], predict: Predict, path: Path, mask_token: str) -> float:
    """Label one shard; if it is there, whole and with these samples, return its seconds instead."""
    began = time.monotonic()
    idx, kind, texts = zip(*shard, strict=True)
    columns = dict(zip(("sentence1", "sentence2"), zip(*texts, strict=True), strict=False))
    rows = {"idx": pa.array(idx, pa.int32()), "kind": pa.array(kind, pa.int8())}
    table = pa.table(rows | columns)
    about = path.with_suffix(".json")  # not in the shard, whose bytes must not depend on a clock
    with suppress(OSError, ValueError, TypeError):  # the shard or its digest is missing or damaged
        sha256, seconds = json.loads(about.read_bytes())
        whole = sha256 == records.sha256(path)
        if whole and pq.read_table(path, columns=table.column_names).equals(table):
            return float(seconds)
    texts = [[to_text(text.split(), mask_token) for text in column] for column in columns.values()]
    logits = pa.array(list(predict(texts)), pa.list_(pa.float32()))
    pq.write_table(
        table.append_column("logits", logits), part := path.with_suffix(".part"), compression="zstd"
    )
    about.write_text(json.dumps([records.sha256(part), round(time.monotonic() - began, 1)]))
    part.replace(path)
    return 0.0


def read(folder: Path) -> pa.Table:
    """Return the set: ``idx``, ``kind`` (0 real, 1 synthetic), ``sentence1``[, 2], ``logits``."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("part-*.parquet")))


def sentences(table: pa.Table, column: str) -> Iterator[str]:
    """Yield a sentence column; only the strings of one shard are in memory at a time."""
    for chunk in table.column(column).chunks:
        yield from chunk.to_pylist()


def logits(table: pa.Table) -> np.ndarray:
    """Return the teacher's logits, float32 [N, labels]."""
    column = table.column("logits").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1).copy()  # Arrow's is read-only


def subset(table: pa.Table, synthetic: float, left_out: np.ndarray, *, seed: int) -> pa.Table:
    """Return the real rows and a random share of the others, without those of ``left_out`` rows."""
    real = table.column("kind").to_numpy() == REAL
    drawn = np.random.default_rng(seed).random(len(table)) < synthetic
    return table.filter((real | drawn) & ~left_out[table.column("idx").to_numpy()])


def targets(table: pa.Table, gold: np.ndarray) -> np.ndarray:
    """Return classes [N]: the gold label of a real row, else the teacher's argmax (section 3.2)."""
    real = table.column("kind").to_numpy() == REAL
    return np.where(real, gold[table.column("idx").to_numpy()], logits(table).argmax(axis=1))
