"""ELMo's shape: the published number of parameters, and a network that reads words in both directions."""

import pytest
import torch

from distil import elmo


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return elmo.Elmo().eval()


def test_the_parameter_count_is_the_originals(model):
    assert sum(p.numel() for p in model.parameters()) == 93_600_864


def test_padding_changes_nothing_and_both_directions_count(model):
    characters = torch.randint(
        1, elmo.CHARACTERS, (2, 4, elmo.CHARACTERS_A_WORD), generator=torch.Generator().manual_seed(1)
    )
    lengths = torch.tensor([4, 2])
    with torch.inference_mode():
        whole = model(characters, lengths)
        alone = model(characters[1:, :2], lengths[1:])
        other = characters.clone()
        other[0, 3] = 7  # the last word of the first sentence
        changed = model(other, lengths)
    assert whole.shape == (2, 4, 2 * elmo.WIDTH)
    torch.testing.assert_close(whole[1, :2], alone[0], atol=1e-5, rtol=1e-4)
    ahead, back = (changed[0, 0] - whole[0, 0]).abs().chunk(2)
    assert ahead.max() == 0 and back.max() > 1e-6  # the first word sees the last one backward only


def test_operations_are_two_a_weight_and_use(model):
    matrices = {name: p for name, p in model.named_parameters() if p.dim() > 1 and not name.startswith("characters")}
    uses = 0
    for weight in matrices.values():
        positions = elmo.CHARACTERS_A_WORD - weight.shape[-1] + 1 if weight.dim() == 3 else 1
        uses += weight.numel() * positions
    assert elmo.flops_a_word() == 2 * uses
