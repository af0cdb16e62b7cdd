"""Turns sentences into arrays of word ids, and cuts examples into batches of similar length."""

import functools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PAD, UNKNOWN = 0, 1  # the first two word ids of every vocabulary
BATCHES_PER_BUCKET = 50
MAX_WORDS = 512  # a longer text is cut: its whole batch would be padded to its length


@functools.cache
def device() -> torch.device:
    """Return the GPU, or the CPU where there is none; on both, float32 means float32.

    Raises RuntimeError if the installed build of PyTorch has no kernels for the GPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.fp32_precision = "ieee"  # by default LSTMs compute in TF32, and a BERT does not
    (major, minor), names = torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
    number, kinds = 10 * major + minor, [name.rstrip("af").split("_") for name in names]
    # A kernel (sm) runs on GPUs of its generation that are not older, a program (compute) on all.
    fits = [kind == "compute" or int(n) // 10 == major for kind, n in kinds if int(n) <= number]
    if not any(fits):
        build = "the CUDA 12.6 build (cu126)" if number < 75 else "a newer build"
        raise RuntimeError(
            f"torch {torch.__version__} has no kernels for {torch.cuda.get_device_name()}, sm_{number}, "
            f"but for {' '.join(names)}: install {build}, or set CUDA_VISIBLE_DEVICES= (no GPU)"
        )
    return torch.device("cuda")


def device_name() -> str:
    """Return the device in words, for records: the GPU's name, or the number of CPU threads."""
    processor = f"CPU, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name()}, no TF32" if device().type == "cuda" else processor


def send(tensor: Tensor, where: torch.device) -> Tensor:
    """Return a tensor on a device; from pinned memory, so that a GPU need not wait for the copy."""
    pinned = tensor.pin_memory() if where.type == "cuda" else tensor
    return pinned.to(where, non_blocking=True)


def encode(words: Sequence[str], ids: Mapping[str, int]) -> list[int]:
    """Return word ids; an empty sentence becomes one unknown word, so no length is ever 0."""
    return [ids.get(word, UNKNOWN) for word in words] or [UNKNOWN]


@dataclass(frozen=True)
class Column:
    """N sentences of word ids in one array; sentence i is ``flat[offsets[i]:offsets[i + 1]]``."""

    flat: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, sentences: Iterable[str], ids: Mapping[str, int]) -> "Column":
        """Encode sentences (words joined by spaces); a word takes four bytes, so millions fit."""
        flat, offsets = array("i"), array("q", [0])
        for text in sentences:
            flat.extend(encode(text.split()[:MAX_WORDS], ids))
            offsets.append(len(flat))
        return cls(np.frombuffer(flat, np.int32), np.frombuffer(offsets, np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of words of each sentence [N]."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return padded ids [B, L] and lengths [B] of some rows."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        positions = np.arange(lengths.max())
        inside = positions < lengths[:, None]
        where = np.where(inside, self.offsets[rows][:, None] + positions, 0)
        ids = np.where(inside, self.flat[where], PAD).astype(np.int64)
        return torch.from_numpy(ids), torch.from_numpy(lengths)


@dataclass(frozen=True)
class Examples:
    """One column, or two for pairs; targets [N]; the teacher's logits [N, labels] or None."""

    columns: tuple[Column, ...]
    targets: np.ndarray
    teacher_logits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> np.ndarray:
        """Return the length of each example's longer sentence [N], which padding depends on."""
        return np.max([column.lengths for column in self.columns], axis=0)

    def inputs(self, rows: np.ndarray, device: torch.device) -> list[Tensor]:
        """Return the arguments of the student's ``forward`` for some rows."""
        return [send(one, device) for column in self.columns for one in column.batch(rows)]


def bucketed_batches(
    lengths: np.ndarray, batch_size: int, *, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield one epoch of rows: shuffled, sorted by length in each bucket, batches shuffled again."""
    order, bucket = rng.permutation(len(lengths)), batch_size * BATCHES_PER_BUCKET
    batches: list[np.ndarray] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    yield from (batches[i] for i in rng.permutation(len(batches)))


def token_budget_batches(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Yield row numbers in batches of similar length, the longest first.

    Rows times longest length is at most ``token_budget``, unless a single row is longer.
    """
    order, start = np.argsort(-lengths, kind="stable"), 0
    while start < len(order):
        rows = max(1, token_budget // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
