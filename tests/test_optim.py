"""AdaDelta by rows against PyTorch's own, which is dense."""

import pytest
import torch
from torch import nn

from distil.optim import LazyAdadelta


def train(optimizer_class, sparse, steps=60):
    """A few steps of regression on sums of word vectors; most words are missing from most batches."""
    torch.manual_seed(0)
    words, layer = nn.Embedding(40, 6, padding_idx=0, sparse=sparse), nn.Linear(6, 3)
    optimizer = optimizer_class([*words.parameters(), *layer.parameters()], lr=1.0, rho=0.95)
    losses = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 40, (5, 4), generator=generator)
        target = torch.randn(5, 3, generator=generator)
        optimizer.zero_grad()
        loss = (layer(words(ids).sum(dim=1)) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, words.weight.detach(), layer.weight.detach()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_steps_are_those_of_dense_adadelta(sparse):
    losses, words, layer = train(LazyAdadelta, sparse)
    expected_losses, expected_words, expected_layer = train(torch.optim.Adadelta, sparse=False)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    torch.testing.assert_close(words, expected_words, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer, expected_layer, atol=1e-5, rtol=1e-4)
    assert (words != train(LazyAdadelta, sparse, steps=1)[1]).any(dim=1).sum() > 30  # nearly all words have moved


def test_a_row_that_was_away_has_decayed():
    """One word in the first and in the last of many steps: as if the steps between had brought gradients of zero."""
    results = []
    for optimizer_class, sparse in ((LazyAdadelta, True), (torch.optim.Adadelta, False)):
        words = nn.Embedding(2, 1, sparse=sparse)
        nn.init.constant_(words.weight, 1.0)
        optimizer = optimizer_class(words.parameters(), lr=1.0, rho=0.9)
        for row in (0, *[1] * 20, 0):
            optimizer.zero_grad()
            words(torch.tensor([row])).pow(2).sum().backward()
            optimizer.step()
        results.append(words.weight.detach().clone())
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-6)


def test_a_reloaded_state_goes_on_to_the_same_bits():
    def run(stop):
        torch.manual_seed(1)
        words = nn.Embedding(10, 3, sparse=True)
        optimizer = LazyAdadelta(words.parameters())
        for step in range(12):
            if step == stop:
                saved = optimizer.state_dict()
                optimizer = LazyAdadelta(words.parameters())
                optimizer.load_state_dict(saved)
            optimizer.zero_grad()
            words(torch.tensor([step % 10, 3])).pow(2).sum().backward()
            optimizer.step()
        return words.weight.detach()

    assert torch.equal(run(stop=None), run(stop=7))
