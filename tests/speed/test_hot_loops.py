"""No step of training or labelling reads a number from the device: a GPU would stand still."""

import numpy as np
import torch
from bench_scale import OneLayer
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from distil import config, teacher, train
from distil.batching import Column, Examples
from distil.student import BiLSTMStudent

TEXTS = [" ".join(["film"] * n) for n in range(1, 41)]


class Reads(TorchDispatchMode):
    """Counts how often a number of a tensor is read: ``item``, ``if``, ``float``."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


def test_an_epoch_reads_its_loss_once():
    column = Column.of(TEXTS, {"film": 2})
    examples = Examples((column,), np.zeros(40), np.ones((40, 2), np.float32))
    sizes = {"hidden_size": 4, "fc_size": 4, "num_labels": 2, "dropout": 0.1, "pooling": "last"}
    model = BiLSTMStudent(torch.randn(9, 5), **sizes, pair=False, channels="multichannel")
    optimizer = train.LazyAdadelta(model.parameters())
    settings = config.settings("smoke", "student").model_copy(update={"batch_size": 4})
    with Reads() as reads:
        train._epoch(model, examples, optimizer, settings, [0, 0], tqdm(disable=True))
    assert reads.count == 1


def test_labelling_reads_the_logits_when_all_are_there(home):
    tokenizer = teacher.load(teacher.resolve("tiny", [TEXTS])[0], 2)[1]
    labelled = OneLayer(len(tokenizer)), tokenizer, [TEXTS]
    for budget in (50, 100_000):  # many batches, one batch
        with Reads() as reads:
            teacher.predict_logits(*labelled, token_budget=budget)
        assert reads.count == 1  # whether all are finite
