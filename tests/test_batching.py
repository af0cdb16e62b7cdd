"""Batches hold every row once, stay within their budget, and pad with zeros only."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distil.batching import UNKNOWN, Column, bucketed_batches, encode, token_budget_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)


@given(LENGTHS, st.integers(1, 70))
def test_token_budget_holds_every_row_once_within_budget(lengths, budget):
    batches = list(token_budget_batches(lengths, budget))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= budget


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_is_every_row_once_and_depends_on_the_seed_alone(lengths, size, seed):
    first, again = (
        list(bucketed_batches(lengths, size, rng=np.random.default_rng(seed))) for _ in range(2)
    )
    assert sorted(np.concatenate(first)) == list(range(len(lengths)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert max(map(len, first)) <= size
    assert all((np.diff(lengths[rows]) >= 0).all() for rows in first)


def test_two_epochs_have_different_orders():
    rngs = [np.random.default_rng([0, epoch]) for epoch in (0, 1)]
    first, second = (np.concatenate([*bucketed_batches(np.arange(99), 9, rng=r)]) for r in rngs)
    assert not np.array_equal(first, second)


def test_a_batch_is_the_sentences_padded_with_zero():
    ids = {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3}
    column = Column.of(["a b a", "b", "", "strange a"], ids)
    padded, lengths = column.batch(np.array([3, 0, 2]))
    assert padded.tolist() == [[1, 2, 0], [2, 3, 2], [1, 0, 0]]
    assert lengths.tolist() == [2, 3, 1]
    assert encode(["b", "[MASK]"], ids) == [3, UNKNOWN] and encode([], ids) == [UNKNOWN]
