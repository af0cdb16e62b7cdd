"""The size and the operations of ELMo and of the student are those that PyTorch counts."""

from pathlib import Path

import nbformat
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distil.speed import elmo
from distil.student import BiLSTMStudent


def counted(model, *inputs):
    """Return the operations that PyTorch counts; it would not count oneDNN's fused LSTM."""
    counter = FlopCounterMode(display=False)
    with torch.backends.mkldnn.flags(enabled=False), counter, torch.no_grad():
        model(torch.zeros(1, *inputs, dtype=torch.long), torch.tensor(inputs[:1]))
    return counter.get_total_flops()


@pytest.mark.parametrize("words", [1, 11])
def test_size_and_operations_of_elmo_and_of_the_student_of_chapter_05(words):
    path = Path(__file__).parents[2] / "notebooks" / "05_speed.ipynb"
    (cell,) = (c.source for c in nbformat.read(path, 4).cells if "def operations(" in c.source)
    exec(cell, names := {"words": words, "shapes": {}, "forms": {}})
    sizes = {"hidden_size": 150, "fc_size": 200, "num_labels": 2, "pair": False, "dropout": 0.0}
    with torch.device("meta"):
        model, vectors = elmo.Elmo().eval(), torch.zeros(20, 300)
        assert sum(p.numel() for p in model.parameters()) == 93_600_864  # as published
        assert elmo.flops_per_word() * words == counted(model, words, elmo.CHARACTERS_PER_WORD)
        small = BiLSTMStudent(vectors, **sizes, channels="multichannel", pooling="last")
        assert names["operations"]("student", small) == counted(small, words)
