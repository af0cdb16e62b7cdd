"""The labelled transfer set on disk: Parquet shards of sentences and the teacher's logits.

A shard appears whole or not at all, so a run that was stopped labels only the shards that are missing. A shard whose sentences
are no longer those that the rules draw is labelled anew.
"""

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distil import ranks
from distil.augment import REAL, Sample
from distil.packages import sha256
from distil.paths import code_digest
from distil.words import MASK, to_text

SHARD_ROWS = 50_000
SEALED = ".json"  # beside a shard: its digest, what it depends on, and the seconds that it took
Predict = Callable[[list[list[str]]], np.ndarray]  # one or two lists of N texts -> logits [N, labels]


class TransferError(RuntimeError):
    """A transfer set on disk is not the one of its record; the message says what to do."""


def write_labelled(
    samples: Iterable[Sample],
    predict: Predict,
    folder: Path,
    *,
    identity: str,
    mask_token: str = MASK,
    shard_rows: int = SHARD_ROWS,
) -> tuple[int, float]:
    """Label the samples with the teacher and write them to ``folder/part-*.parquet``; several processes take turns by shard.

    Args:
        samples: as ``augment.transfer_set`` yields them.
        identity: what the logits depend on beside the sentences, such as the teacher; a shard of another is labelled anew, and
            that is said.
        mask_token: how the teacher writes a mask.

    Returns:
        Number of samples, and the seconds that labelling took for the shards that were there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total, number, earlier, mark = 0, -1, 0.0, _mark(identity)
    for number, shard in enumerate(_batched(samples, shard_rows)):
        total += len(shard)
        path = folder / f"part-{number:05d}.parquet"
        table = _table(shard)
        if number % ranks.world_size() != ranks.rank():
            continue
        began = time.monotonic()
        if (seconds := _kept(path, table, mark)) is not None:
            earlier += seconds
            continue
        columns = zip(*(sample.sentences for sample in shard), strict=True)
        logits = predict([[to_text(text.split(), mask_token) for text in column] for column in columns])
        part = path.with_suffix(".part")
        table = table.append_column("logits", pa.array(list(logits), pa.list_(pa.float32())))
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
        about = {"sha256": sha256(path), "identity": mark, "seconds": round(time.monotonic() - began, 1)}
        path.with_suffix(SEALED).write_text(json.dumps(about), encoding="utf-8")
    ranks.wait()
    if ranks.rank() == 0:
        for path in sorted(folder.glob("part-*.parquet"))[number + 1 :]:
            path.unlink()
    ranks.wait()
    return total, earlier


def _mark(identity: str) -> str:
    """What a shard's labels depend on: the identity that the caller knows, and the code that does the teacher's arithmetic."""
    return hashlib.sha256(f"{identity} {code_digest('batching', 'fastbert')}".encode()).hexdigest()


def _kept(path: Path, table: pa.Table, identity: str) -> float | None:
    """Seconds that a shard took, if it is there to the byte as it was written, has these sentences and is of this identity."""
    try:
        about = json.loads(path.with_suffix(SEALED).read_text(encoding="utf-8"))
        digest, of, seconds = about["sha256"], about["identity"], float(about["seconds"])
    except (OSError, ValueError, TypeError, KeyError):  # not there, or damaged
        return None
    if not path.exists() or sha256(path) != digest:
        return None
    if of != identity:
        print(
            f"{path.parent.name}/{path.name}: of another teacher, setting or version of the code; labelled anew",
            file=sys.stderr,  # of no interest on a page
            flush=True,
        )
        return None
    return seconds if pq.read_table(path, columns=table.column_names).equals(table) else None


def _table(samples: Sequence[Sample]) -> pa.Table:
    columns = {
        "idx": pa.array([sample.idx for sample in samples], pa.int32()),
        "kind": pa.array([sample.kind for sample in samples], pa.int8()),
    }
    for name, column in zip(
        ("sentence1", "sentence2"), zip(*(s.sentences for s in samples), strict=True), strict=False
    ):
        columns[name] = pa.array(list(column))
    return pa.table(columns)


def _batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def read(folder: Path, expected: str = "") -> pa.Table:
    """The whole labelled set: columns ``idx``, ``kind`` (0 real, 1 synthetic), ``sentence1``, [``sentence2``,] ``logits``.

    Args:
        expected: the digest that its record gives; empty to take what is there.

    Raises:
        FileNotFoundError: 03_transfer_set has not run.
        TransferError: its bytes are not those of the record.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise FileNotFoundError(
            f"no transfer set in {folder.parent.name}/{folder.name}: run notebooks/03_transfer_set.ipynb for it, or delete its "
            "record, if there is one, and 'make reproduce'"
        )
    if expected and digest(folder) != expected:
        raise TransferError(
            f"{folder.parent.name}/{folder.name} is not the transfer set of its record: a file is damaged or was replaced. "
            "Delete the record and run again; whole shards are kept"
        )
    return pa.concat_tables([pq.read_table(part) for part in parts])


def sentences(table: pa.Table, column: str) -> Iterator[str]:
    """One sentence column of a transfer set, a shard's worth of Python strings at a time."""
    for chunk in table.column(column).chunks:
        yield from chunk.to_pylist()


def logits(table: pa.Table) -> np.ndarray:
    """The teacher's logits of a transfer set, float32 [N, labels]."""
    column = table.column("logits").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1).copy()  # Arrow's own memory is read-only


def subset(table: pa.Table, synthetic: float, left_out: np.ndarray, *, seed: int) -> pa.Table:
    """The rows to learn from: the real ones and a random share of the synthetic ones, without those of ``left_out`` sources.

    Args:
        synthetic: share in [0, 1]; left_out: whether each row of the training split is held out [N].
    """
    real = table.column("kind").to_numpy() == REAL
    drawn = np.random.default_rng(seed).random(len(table)) < synthetic
    return table.filter((real | drawn) & ~left_out[table.column("idx").to_numpy()])


def targets(table: pa.Table, gold: np.ndarray) -> np.ndarray:
    """Class of each example [N]: a real one has its gold label, a synthetic one the teacher's argmax (section 3.2).

    Args:
        gold: labels of the training split, by row.
    """
    real = table.column("kind").to_numpy() == REAL
    return np.where(real, gold[table.column("idx").to_numpy()], logits(table).argmax(axis=1))


def digest(folder: Path) -> str:
    """One sha256 over the shards."""
    return hashlib.sha256(
        json.dumps([sha256(path) for path in sorted(folder.glob("part-*.parquet"))]).encode()
    ).hexdigest()
