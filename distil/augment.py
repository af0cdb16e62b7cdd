"""Makes the sentences of the transfer set from the training sentences (paper section 3.3).

docs/method.md says what was chosen where the paper is silent, and where the authors' code differs.
"""

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from distil.words import MASK

MAX_NGRAM = 5
REAL, SYNTHETIC = 0, 1
Rng = random.Random  # or numpy's Generator: only ``random()``, a draw from [0, 1), is used
Column = Sequence[Sequence[str]]  # the words, or the tags, of each example


def augment(
    tokens: Sequence[str],
    tags: Sequence[str],
    unigrams_by_tag: Mapping[str, Sequence[str]],
    *,
    p_mask: float,
    p_pos: float,
    p_ng: float,
    rng: Rng,
) -> list[str]:
    """Return one synthetic sentence; all randomness comes from ``rng.random()``.

    ``unigrams_by_tag`` has every token of the training text under its tag, repeats included, so a
    uniform draw is one from the unigram distribution within the tag. There is one draw X per word:
    X < p_mask masks it, else X < p_mask + p_pos replaces it by a word of the same tag. With
    probability p_ng only an n-gram of the result is kept, with n uniform on 1..5.
    """
    if len(tokens) != len(tags):
        raise ValueError(f"every word needs one tag, got {len(tokens)} words and {len(tags)} tags")
    words, uniform, p_change = list(tokens), rng.random, p_mask + p_pos
    for place, tag in enumerate(tags):
        draw = uniform()
        if draw < p_change:
            if draw < p_mask:
                words[place] = MASK
            elif tag in unigrams_by_tag:
                same_tag = unigrams_by_tag[tag]
                words[place] = same_tag[int(uniform() * len(same_tag))]
    if uniform() < p_ng:
        n = min(1 + int(uniform() * MAX_NGRAM), len(words))
        start = int(uniform() * (len(words) - n + 1))
        words = words[start : start + n]
    return words


def unigrams(tokens: Iterable[Sequence[str]], tags: Column) -> dict[str, list[str]]:
    """Return the tokens of a text by tag, with repeats: what ``augment`` draws from."""
    by_tag: dict[str, list[str]] = {}
    for words, word_tags in zip(tokens, tags, strict=True):
        for word, tag in zip(words, word_tags, strict=True):
            by_tag.setdefault(tag, []).append(word)
    return by_tag


class Trigrams:
    """A trigram model of a text that writes sentences (Witten and Bell 1991); not in the paper.

    After a context that was seen n times, before k different words, the next word is drawn from the
    words seen there with probability n / (n + k). Else the context loses its first word.
    """

    def __init__(self, sentences: Iterable[Sequence[str]]) -> None:
        self.after: dict[tuple[str, ...], list[str]] = {}
        for words in sentences:
            whole = ["", *words, ""]  # an empty word begins and ends a sentence
            for end in range(1, len(whole)):
                for start in range(max(0, end - 2), end + 1):
                    self.after.setdefault(tuple(whole[start:end]), []).append(whole[end])
        self.trust = {c: len(w) / (len(w) + len({*w})) for c, w in self.after.items()}

    def sentence(self, start: Sequence[str], rng: Rng) -> list[str]:
        """Return a sentence that begins with the words of ``start``."""
        words = ["", *start]
        while len(words) == 1 or words[-1]:
            context = tuple(words[-2:])
            while context and rng.random() >= self.trust.get(context, 0):
                context = context[1:]
            words.append(self.after[context][int(rng.random() * len(self.after[context]))])
        return words[1:-1]


class Sample(NamedTuple):
    """One example: its training row, real or synthetic, and one or two sentences as text."""

    idx: int
    kind: int
    sentences: tuple[str, ...]


def transfer_set(
    sentences: Sequence[Column],
    tags: Sequence[Column],
    *,
    n_iter: int,
    n_trigram: int = 0,
    seed: int,
    **rates: float,
) -> Iterator[Sample]:
    """Yield the real examples, then the synthetic ones row by row, all without duplicates.

    ``sentences`` and ``tags`` hold one column, or two for pairs; ``rates`` are ``augment``'s three.
    A row gives ``n_iter`` samples by the rules, then ``n_trigram`` sentences that a trigram model
    continues from the row's first word.
    Each row draws with its own seed (seed, row), so its draws do not depend on the other rows.
    """
    rng = random.Random()  # seeded for each row: a new one per row would cost as much again
    by_tag = unigrams(itertools.chain(*sentences), list(itertools.chain(*tags)))
    model = Trigrams(itertools.chain(*sentences) if n_trigram else ())
    rounds = ((0,),) if len(sentences) == 1 else ((0,), (1,), (0, 1))  # columns to change, in turn
    seen: set[bytes] = set()
    for idx, texts in enumerate(zip(*sentences, strict=True)):
        yield from _new(Sample(idx, REAL, tuple(map(" ".join, texts))), seen)
    rows = zip(zip(*sentences, strict=True), zip(*tags, strict=True), strict=True)
    for idx, (example, tagged) in enumerate(rows):
        rng.seed(f"{seed}/{idx}")
        whole = list(map(" ".join, example))
        for iteration in range(n_iter + n_trigram):
            drawn = whole.copy()
            for i in rounds[iteration % len(rounds)]:
                if iteration < n_iter:
                    made = augment(example[i], tagged[i], by_tag, **rates, rng=rng)
                else:
                    made = model.sentence(example[i][:1], rng)
                drawn[i] = " ".join(made)
            yield from _new(Sample(idx, SYNTHETIC, tuple(drawn)), seen)


def _new(sample: Sample, seen: set[bytes]) -> Iterator[Sample]:
    """Yield a sample if its text is new; keep 16 bytes of it, since MNLI has millions."""
    key = hashlib.blake2b("\t".join(sample.sentences).encode(), digest_size=16).digest()
    if key not in seen:
        seen.add(key)
        yield sample
