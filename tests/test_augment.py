"""Compares the three rules with a slow reading of section 3.3, and with closed forms."""

import hashlib
import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from distil.augment import REAL, SYNTHETIC, Trigrams, augment, transfer_set, unigrams
from distil.words import MASK

OFF = {"p_mask": 0.0, "p_pos": 0.0, "p_ng": 0.0}
TRAINING = ["a cat sat", "a dog sat here", "the cat ran", "the cat slept"]
TRAINING = [text.split() for text in TRAINING]
TAGS = [["DT", "NN", "VB", "RB"][: len(words)] for words in TRAINING]
BY_TAG = unigrams(TRAINING, TAGS)


def fits(counts, expected):
    """Say whether counts agree with expected probabilities (chi-square, p over 0.001)."""
    total = sum(counts.values())
    assert set(counts) <= set(expected), set(counts) - set(expected)
    observed = [counts[key] for key in expected]
    return chisquare(observed, [total * p for p in expected.values()]).pvalue > 0.001


def slow_word(token, tag, p_mask, p_pos):
    """Return the probabilities of what a word becomes, from the paper's text."""
    outcome = Counter({MASK: p_mask, token: 1 - p_mask - p_pos})
    tagged = [pair for pairs in map(zip, TRAINING, TAGS) for pair in pairs]
    same = [word for word, other in tagged if other == tag]
    for word in same:
        outcome[word] += p_pos / len(same)
    return {word: p for word, p in outcome.items() if p > 0}


def slow_sentence(tokens, tags, p_mask, p_pos, p_ng):
    """Return the probability of every outcome of a short sentence, by enumeration."""
    choices = [slow_word(*pair, p_mask, p_pos).items() for pair in zip(tokens, tags, strict=True)]
    final = Counter()
    for outcome in itertools.product(*choices):
        words, p = tuple(word for word, _ in outcome), math.prod(p for _, p in outcome)
        final[words] += p * (1 - p_ng)
        for n in range(1, 6):
            size = min(n, len(words))
            windows = [words[i : i + size] for i in range(len(words) - size + 1)]
            for window in windows:
                final[window] += p * p_ng / 5 / len(windows)
    return final


@pytest.mark.parametrize("make_rng", [random.Random, np.random.default_rng])
def test_every_outcome_has_its_probability(make_rng):
    rng, tokens, tags = make_rng(7), ["a", "cat", "sat"], ["DT", "NN", "VB"]
    rates = {"p_mask": 0.2, "p_pos": 0.3, "p_ng": 0.4}
    counts = Counter(tuple(augment(tokens, tags, BY_TAG, **rates, rng=rng)) for _ in range(60_000))
    expected = slow_sentence(tokens, tags, **rates)
    assert sum(expected.values()) == pytest.approx(1)
    assert fits(counts, expected)


def test_an_ngram_is_kept_and_the_rest_is_dropped():
    letters, rng, rates = "abcdefgh", random.Random(3), OFF | {"p_ng": 1}
    drawn = (augment([*letters], ["X"] * 8, {}, **rates, rng=rng) for _ in range(40_000))
    expected = {letters[i : i + n]: 1 / 5 / (9 - n) for n in range(1, 6) for i in range(9 - n)}
    assert fits(Counter(map("".join, drawn)), expected)
    assert augment([], [], {}, **rates, rng=rng) == []
    with pytest.raises(ValueError, match="2 words and 1 tags"):
        augment(["a", "b"], ["DT"], {}, **rates, rng=rng)


def synthetic(samples, idx=None):
    """Return the sentences of the synthetic samples, of one row or of all."""
    return [s.sentences for s in samples if s.kind == SYNTHETIC and idx in (None, s.idx)]


def test_pairs_cycle_first_second_both():
    columns = [[f"a{i}", "x", "y"] for i in range(40)], [[f"b{i}", "z"] for i in range(40)]
    tags = [["T"] * 3] * 40, [["U"] * 2] * 40
    samples = list(transfer_set(columns, tags, n_iter=3, **OFF | {"p_mask": 1.0}, seed=0))
    drawn = [synthetic(samples, i) for i in range(40)]
    masked = " ".join([MASK] * 3), " ".join([MASK] * 2)
    for i in range(40):
        assert drawn[i][0] == (masked[0], f"b{i} z")
        assert drawn[i][1] == (f"a{i} x y", masked[1])
        assert drawn[i][2:] == ([masked] if i == 0 else [])  # two all-masked pairs are duplicates


def test_no_duplicates_real_first_and_at_most_n_iter_each():
    sentences, tags = [TRAINING * 3], [TAGS * 3]
    rates = {"p_mask": 0.1, "p_pos": 0.1, "p_ng": 0.25}
    samples = list(transfer_set(sentences, tags, n_iter=6, **rates, seed=5))
    assert len({s.sentences for s in samples}) == len(samples)
    assert [s.sentences[0] for s in samples[:4]] == [" ".join(words) for words in TRAINING]
    assert [s.kind for s in samples] == [REAL] * 4 + [SYNTHETIC] * (len(samples) - 4)
    assert max(Counter(s.idx for s in samples if s.kind == SYNTHETIC).values()) <= 6
    assert hashlib.sha256(repr([*map(tuple, samples)]).encode()).hexdigest()[:12] == "5ccc64b691b6"


def test_the_draws_of_a_row_do_not_depend_on_other_rows():
    settings = {"n_iter": 4, "p_mask": 0.3, "p_pos": 0.0, "p_ng": 0.0, "seed": 9}
    whole = list(transfer_set([TRAINING], [TAGS], **settings))
    fewer = list(transfer_set([[["x"], TRAINING[1]]], [[["X"], TAGS[1]]], **settings))
    assert len(synthetic(whole, 1)) > 1 and synthetic(whole, 1) == synthetic(fewer, 1)
    other = list(transfer_set([TRAINING], [TAGS], **settings | {"seed": 10}))
    assert [s.sentences for s in whole] != [s.sentences for s in other]
    more = list(transfer_set([TRAINING], [TAGS], **settings, n_trigram=9))
    assert {*synthetic(whole)} < {*synthetic(more)}  # sentences of the trigram model come after


def test_n_iter_draws_of_every_example_each_with_its_own_randomness():
    sentences = [[f"w{i}.{j}" for j in range(30)] for i in range(20)]  # no two draws are equal
    tags = [["T"] * 30] * 20
    samples = list(transfer_set([sentences], [tags], n_iter=4, **OFF | {"p_mask": 0.5}, seed=1))
    counts = {(i, kind): n for i in range(20) for kind, n in ((REAL, 1), (SYNTHETIC, 4))}
    assert Counter((s.idx, s.kind) for s in samples) == counts
    masks = [tuple(word == MASK for word in text.split()) for (text,) in synthetic(samples)]
    assert len(set(masks)) == len(masks)


def slow_trigram(context):
    """Return the probability of each next word, from Witten and Bell's formula; "" is the end."""
    texts = [["", *words, ""] for words in TRAINING]
    places = [(text, end) for text in texts for end in range(1, len(text))]
    n = len(context)
    seen = Counter(text[end] for text, end in places if (*text[max(0, end - n) : end],) == context)
    total, kinds = seen.total(), len(seen) * bool(context)
    shorter = slow_trigram(context[1:]) if context else Counter()
    found = {w: (seen[w] + kinds * shorter[w]) / (total + kinds) for w in seen | shorter if total}
    return Counter(found or shorter)


@pytest.mark.parametrize("start", [["a"], ["the", "cat"], ["dog", "the"], []])
def test_a_trigram_model_continues_a_sentence_as_its_formula_says(start):
    model, rng = Trigrams(TRAINING), random.Random(3)
    drawn = [[*model.sentence(start, rng), ""] for _ in range(20_000)]
    assert {(*words[: len(start)],) for words in drawn} == {(*start,)}
    counts = Counter(words[len(start)] for words in drawn)
    assert fits(counts, slow_trigram((*["", *start][-2:],)))


def test_pairs_that_differ_only_in_where_they_are_cut_are_two_examples():
    for columns in ((["a b", "a", "ab"], ["c", "b c", "c"]), (["a", "ab"], ["bc", "c"])):
        sentences = [[text.split() for text in column] for column in columns]
        tags = [[["T"] * len(words) for words in column] for column in sentences]
        samples = list(transfer_set(sentences, tags, n_iter=0, **OFF, seed=0))
        assert len(samples) == len(columns[0])
