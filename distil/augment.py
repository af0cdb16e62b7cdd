"""The transfer set (paper section 3.3): masking, POS-guided word replacement, n-gram sampling, and the generator over a data set.

Where the text is silent: an n-gram longer than the sentence keeps the whole sentence; the replacement is drawn from the tokens
(not the types) of the training text, so a word may be replaced by itself; for pairs, ``n_iter`` samples in all cycle through
'first', 'second', 'both'. The authors' code differs: its n-gram rule is off by default, never draws the last window, and stops
drawing for short sentences.
"""

import gc
import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from distil.words import MASK
from distil.workers import spread

MAX_NGRAM = 5
REAL, SYNTHETIC = 0, 1


class Rng(Protocol):
    """Anything with ``random()`` in [0, 1): ``random.Random`` and numpy's ``Generator`` both do."""

    def random(self) -> float:
        """A uniform draw in [0, 1)."""


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
    """One synthetic sentence.

    Args:
        tokens: words of the sentence; ``tags``: their part-of-speech tags, one each.
        unigrams_by_tag: every token of the training text, listed under its tag, repeats included: a uniform draw from a list
            is then a draw from the unigram distribution renormalised over the tag.
        p_mask, p_pos: one uniform draw X a word: X < p_mask masks it, p_mask <= X < p_mask + p_pos replaces it.
        p_ng: probability that only a random n-gram of the result is kept, n uniform on 1..5, every window equally likely.
        rng: all randomness comes from ``rng.random()``.
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


def unigrams(tokens: Iterable[Sequence[str]], tags: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """The tokens of a text, listed under their tags with repeats: what ``augment`` draws replacements from."""
    by_tag: dict[str, list[str]] = {}
    for words, word_tags in zip(tokens, tags, strict=True):
        for word, tag in zip(words, word_tags, strict=True):
            by_tag.setdefault(tag, []).append(word)
    return by_tag


class Sample(NamedTuple):
    """One example of the transfer set: the row it came from, real or synthetic, and one or two sentences (words and spaces)."""

    idx: int
    kind: int
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Rules:
    """What every draw depends on beside its example."""

    by_tag: Mapping[str, Sequence[str]]
    n_iter: int
    p_mask: float
    p_pos: float
    p_ng: float
    seed: int


def transfer_set(
    sentences: Sequence[Sequence[Sequence[str]]],
    tags: Sequence[Sequence[Sequence[str]]],
    *,
    n_iter: int,
    p_mask: float,
    p_pos: float,
    p_ng: float,
    seed: int,
    workers: int = 1,
) -> Iterator[Sample]:
    """The real examples and ``n_iter`` draws from each, duplicates dropped across the whole set.

    Args:
        sentences: one sequence of examples per sentence column (one, or two for pairs), each example a list of words.
        tags: the same shape, with tags.
        seed: each example draws from its own generator, seeded by (seed, row), so the result does not depend on the order
            or the number of workers.
        workers: processes that draw.
    """
    by_tag = unigrams(itertools.chain(*sentences), itertools.chain(*tags))
    rules = _Rules(by_tag, n_iter, p_mask, p_pos, p_ng, seed)
    seen: set[bytes] = set()
    for idx, example in enumerate(zip(*sentences, strict=True)):
        yield from _new(idx, REAL, [_keyed(tuple(map(" ".join, example)))], seen)
    examples = enumerate(zip(zip(*sentences, strict=True), zip(*tags, strict=True), strict=True))
    chunks = iter(lambda: list(itertools.islice(examples, _CHUNK)), [])
    workers = min(workers, -(-len(sentences[0]) // _CHUNK) or 1)
    try:
        for chunk in spread(_draw_chunk, chunks, workers=workers, setup=_start_drawing, arguments=(rules,)):
            for idx, drawn in chunk:
                yield from _new(idx, SYNTHETIC, drawn, seen)
    finally:
        gc.unfreeze()


_CHUNK = 2000  # examples that one process draws from at a time
_in_this_process: dict[str, _Rules] = {}
Example = tuple[tuple[Sequence[str], ...], tuple[Sequence[str], ...]]  # words and tags of the one or two sentences
Keyed = tuple[bytes, tuple[str, ...]]  # a digest of the one or two sentences, and these


def _start_drawing(rules: _Rules) -> None:
    _in_this_process["rules"] = rules
    gc.freeze()  # or Python looks through all these words for cycles, again and again: a tenth of the time


def _draw_chunk(chunk: Sequence[tuple[int, Example]]) -> list[tuple[int, list[Keyed]]]:
    rules = _in_this_process["rules"]
    rng = random.Random()  # seeded for each example: a new generator would cost as much again
    return [(idx, _draw(idx, example, rules, rng)) for idx, example in chunk]


def _draw(idx: int, example: Example, rules: _Rules, rng: random.Random) -> list[Keyed]:
    """The different ones among the draws from one example, in their order."""
    rng.seed(f"{rules.seed}/{idx}")
    sentences, tags = example
    whole, drawn = list(map(" ".join, sentences)), {}
    by_tag, p_mask, p_pos, p_ng = rules.by_tag, rules.p_mask, rules.p_pos, rules.p_ng
    rounds = _rounds(len(sentences))
    for iteration in range(rules.n_iter):
        texts = whole.copy()
        for column in rounds[iteration % len(rounds)]:
            words = augment(sentences[column], tags[column], by_tag, p_mask=p_mask, p_pos=p_pos, p_ng=p_ng, rng=rng)
            texts[column] = " ".join(words)
        drawn[tuple(texts)] = None
    return list(map(_keyed, drawn))


def _keyed(sentences: tuple[str, ...]) -> Keyed:
    """With a digest of 16 bytes: MNLI at the paper's scale is four million pairs, too many to remember whole."""
    return hashlib.blake2b("\t".join(sentences).encode(), digest_size=16).digest(), sentences


def _rounds(columns: int) -> tuple[tuple[int, ...], ...]:
    """Which sentences change in turn: a single one always, of a pair the first, the second, both."""
    return ((0,),) if columns == 1 else ((0,), (1,), (0, 1))


def _new(idx: int, kind: int, drawn: Iterable[Keyed], seen: set[bytes]) -> Iterator[Sample]:
    """Those not seen before."""
    for key, sentences in drawn:
        if key not in seen:
            seen.add(key)
            yield Sample(idx, kind, sentences)
