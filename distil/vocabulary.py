"""The student's vocabulary: which words have an id, and the ids of a sentence."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distil.words import MASK

PAD, UNKNOWN = 0, 1  # ids; every vocabulary begins with them


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
