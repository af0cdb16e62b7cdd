"""Examples as flat id arrays, and batches of like length, for training and for prediction."""

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distil.vocabulary import encode

BATCHES_PER_BUCKET = 50


def device() -> torch.device:
    """This process's GPU (the first, where it is alone), or the CPU."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def device_name() -> str:
    """The device in words, for records: a GPU's name, or the number of CPU threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Column:
    """N sentences of word ids end to end: sentence i is ``flat[offsets[i]:offsets[i + 1]]``."""

    flat: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, sentences: Iterable[str], ids: Mapping[str, int]) -> "Column":
        """Encode prepared sentences (words joined by spaces); four bytes a word, so that millions of them fit."""
        flat, offsets = array("i"), array("q", [0])
        for text in sentences:
            flat.extend(encode(text.split(), ids))
            offsets.append(len(flat))
        return cls(np.frombuffer(flat, np.int32), np.frombuffer(offsets, np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """Words of each sentence [N]."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Padded ids [B, L] and lengths [B] of some rows."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        positions = np.arange(lengths.max())
        inside = positions < lengths[:, None]
        where = np.where(inside, self.offsets[rows][:, None] + positions, 0)
        return torch.from_numpy(np.where(inside, self.flat[where], 0).astype(np.int64)), torch.from_numpy(lengths)


@dataclass(frozen=True)
class Examples:
    """One column, or two for pairs; gold or teacher-argmax targets [N]; the teacher's logits [N, labels] or None."""

    columns: tuple[Column, ...]
    targets: np.ndarray
    teacher_logits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> np.ndarray:
        """Length of the longer sentence of each example [N]: what a padded batch costs."""
        return np.max([column.lengths for column in self.columns], axis=0)

    def inputs(self, rows: np.ndarray, device: torch.device) -> list[Tensor]:
        """Arguments of the student's ``forward`` for some rows."""
        return [tensor.to(device) for column in self.columns for tensor in column.batch(rows)]


def bucketed_batches(lengths: np.ndarray, batch_size: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One epoch of shuffled batches: rows are shuffled, sorted by length within ``BATCHES_PER_BUCKET`` batches, reshuffled."""
    order = rng.permutation(len(lengths))
    bucket = batch_size * BATCHES_PER_BUCKET
    batches: list[np.ndarray] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    yield from (batches[i] for i in rng.permutation(len(batches)))


def token_budget_batches(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Rows in batches of like length, longest first: rows times the longest stay within ``token_budget`` (one row at least)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, token_budget // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
