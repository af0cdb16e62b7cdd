"""ELMo's shape: the published number of parameters, its operations, and both directions."""

from pathlib import Path

import nbformat
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distil.speed import elmo
from distil.student import BiLSTMStudent


def test_the_parameter_count_is_the_originals():
    with torch.device("meta"):
        assert sum(p.numel() for p in elmo.Elmo().parameters()) == 93_600_864


@pytest.mark.parametrize("words", [1, 11])
def test_the_operations_are_those_that_pytorch_counts(words):
    """On the device ``meta`` nothing is computed; oneDNN's fused LSTM would not be counted."""
    with torch.device("meta"), torch.backends.mkldnn.flags(enabled=False):
        model, counter = elmo.Elmo().eval(), FlopCounterMode(display=False)
        characters = torch.zeros(1, words, elmo.CHARACTERS_PER_WORD, dtype=torch.long)
        with counter, torch.no_grad():
            model(characters, torch.tensor([words]))
    assert elmo.flops_per_word() * words == counter.get_total_flops()


def test_chapter_05_counts_the_students_operations():
    path = Path(__file__).parents[2] / "notebooks" / "05_speed.ipynb"
    (cell,) = (c.source for c in nbformat.read(path, 4).cells if "def operations(" in c.source)
    exec(cell, names := {"words": 9, "shapes": {}, "forms": {}})
    sizes = {"hidden_size": 150, "fc_size": 200, "num_labels": 2, "pair": False, "dropout": 0.0}
    with torch.device("meta"), torch.backends.mkldnn.flags(enabled=False):
        vectors, counter = torch.zeros(20, 300), FlopCounterMode(display=False)
        model = BiLSTMStudent(vectors, **sizes, channels="multichannel", pooling="last")
        with counter, torch.no_grad():
            model(torch.zeros(1, 9, dtype=torch.long), torch.tensor([9]))
    assert names["operations"]("student", model) == counter.get_total_flops()


def test_the_memory_of_the_convolutions_does_not_grow_with_the_batch(monkeypatch):
    monkeypatch.setattr(elmo, "CELLS", 520)
    monkeypatch.setattr(elmo, "WORDS", 5)
    torch.manual_seed(0)
    model, read = elmo.Elmo().eval(), []
    characters = torch.randint(1, elmo.CHARACTERS, (3, 4, elmo.CHARACTERS_PER_WORD))
    model.convolutions[0].register_forward_hook(lambda _, inputs, __: read.append(len(inputs[0])))
    with torch.inference_mode():
        parts, (one,) = model.words(characters), model.words(characters[1:2])
    assert read == [5, 5, 2, 4]
    torch.testing.assert_close(parts[1], one, atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing_and_both_directions_count(monkeypatch):
    monkeypatch.setattr(elmo, "CELLS", 520)  # small, so that it is quick
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
