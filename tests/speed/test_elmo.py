"""ELMo's shape: the published number of parameters, its operations, and both directions."""

from pathlib import Path

import nbformat
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distil.speed import elmo
from distil.student import BiLSTMStudent


def counted(model, *inputs):
    """Return the operations that PyTorch counts on the device ``meta``, where nothing is computed.

    oneDNN's fused LSTM would not be counted.
    """
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


def test_padding_changes_nothing_and_both_directions_count(monkeypatch):
    monkeypatch.setattr(elmo, "CELLS", 520)  # small, so that it is quick
    monkeypatch.setattr(elmo, "WORDS", 5)  # the words of the batch are read in two parts
    torch.manual_seed(0)
    model, lengths = elmo.Elmo().eval(), torch.tensor([4, 2])
    characters = torch.randint(1, elmo.CHARACTERS, (2, 4, elmo.CHARACTERS_PER_WORD))
    other = characters.clone()
    other[0, 3] = 7  # the last word of the first sentence
    with torch.inference_mode():
        whole, changed = model(characters, lengths), model(other, lengths)
        alone = model(characters[1:, :2], lengths[1:])
    assert whole.shape == (2, 4, 2 * elmo.WIDTH)
    torch.testing.assert_close(whole[1, :2], alone[0], atol=1e-5, rtol=1e-4)
    ahead, back = (changed[0, 0] - whole[0, 0]).abs().chunk(2)
    assert ahead.max() == 0 and back.max() > 1e-6  # the first word sees the last one backward only
