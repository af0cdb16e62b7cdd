"""Batches hold every row once, stay within their budget, and pad with zeros only."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distil import batching
from distil.batching import UNKNOWN, Column, bucketed_batches, encode, token_budget_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)


@given(LENGTHS, st.integers(1, 70), st.integers(0, 5))
def test_an_epoch_is_every_row_once_and_its_order_changes_with_epoch_and_seed(lengths, size, seed):
    """A budget of tokens holds every row once too."""
    batches = list(token_budget_batches(lengths, size))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= size for rows in batches)

    def order(lengths, size, *seeds):
        return list(bucketed_batches(lengths, size, rng=np.random.default_rng(seeds)))

    first, again = order(lengths, size, seed), order(lengths, size, seed)
    assert sorted(np.concatenate(first)) == list(range(len(lengths)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert max(map(len, first)) <= size
    assert all((np.diff(lengths[rows]) >= 0).all() for rows in first)
    orders = [order(np.arange(999), 9, *seeds) for seeds in ((seed, 0), (seed, 1), (9, 0))]
    assert len({(*np.concatenate(batches),) for batches in orders}) == 3
    assert max(np.ptp(rows) for rows in orders[0]) > 8  # the rows of a bucket, not of the epoch
    assert [*map(min, orders[0][:50])] != sorted(map(min, orders[0][:50]))  # shuffled again


def test_a_batch_is_the_sentences_padded_with_zero():
    ids = {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3}
    column = Column.of(["a b a", "b", "", "strange a"], ids)
    padded, lengths = column.batch(np.array([3, 0, 2]))
    assert padded.tolist() == [[1, 2, 0], [2, 3, 2], [1, 0, 0]] and lengths.tolist() == [2, 3, 1]
    pair = batching.Examples((column, Column.of(["a", "b a", "a b", "b"], ids)), np.zeros(4))
    assert pair.lengths.tolist() == [3, 2, 2, 2]  # of the longer sentence
    assert encode(["b", "[MASK]"], ids) == [3, UNKNOWN] and encode([], ids) == [UNKNOWN]


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that pretends there is a GPU of a capability, and a build of PyTorch."""

    def pretend(capability, built):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", built.split)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100-SXM2-32GB")
        batching.device.cache_clear()

    before = torch.backends.fp32_precision
    yield pretend
    torch.backends.fp32_precision = before
    batching.device.cache_clear()


PINNED = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"
KERNELS = [((7, 0), PINNED, "the CUDA 12.6 build")]  # sm_75 is of its generation, but newer
KERNELS += [((12, 1), "sm_90 sm_100f", "a newer build"), ((7, 0), "sm_60 sm_70", None)]
KERNELS += [((8, 9), PINNED, None), ((12, 1), "sm_90a compute_90a", None)]


@pytest.mark.parametrize(("capability", "built", "build"), KERNELS)
def test_a_gpu_needs_kernels_and_computes_without_tf32(gpu, capability, built, build):
    gpu(capability, built)
    if build is None:
        assert torch.backends.cudnn.rnn.fp32_precision == "tf32"  # PyTorch's default, of LSTMs
        assert batching.device().type == "cuda"
        assert batching.device_name() == "Tesla V100-SXM2-32GB, no TF32"
        cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
        assert {kind.fp32_precision for kind in (cudnn.rnn, cudnn.conv, cuda.matmul)} == {"ieee"}
        return
    with pytest.raises(RuntimeError, match="V100.*sm_{}{}.*{}".format(*capability, build)) as e:
        batching.device()
    assert "\n" not in str(e.value) and len(str(e.value)) < 500
