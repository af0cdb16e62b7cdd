"""A BERT laid out for a CPU gives the logits of its own ``forward``: padded or not, alone or in pairs, packed or not."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from distil.fastbert import KNOWN, FastBert, Product, fits

SIZES = {"vocab_size": 50, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 80, "num_hidden_layers": 3}
PAD = 1  # MPNet's; to BERT, which goes by the mask, it is a word like another


def bert(labels=3, kind=BertForSequenceClassification, **changes):
    torch.manual_seed(3)
    model = kind(kind.config_class(**SIZES | changes, num_labels=labels)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # at its start a network is nearly linear, and has no bias
            parameter.mul_(4) if parameter.dim() == 2 else parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def batch(lengths, types=False):
    ids, mask = torch.randint(2, 50, (len(lengths), max(lengths))), torch.zeros(len(lengths), max(lengths)).long()
    for row, length in enumerate(lengths):
        mask[row, :length], ids[row, length:] = 1, PAD
    found = {"input_ids": ids, "attention_mask": mask}
    return found | {"token_type_ids": (torch.arange(ids.shape[1]) > 2).long().expand_as(ids)} if types else found


@pytest.fixture(params=["packed", "plain"])
def products(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    elif not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("lengths", [[7, 7, 7], [9, 4, 1, 6], [1], [40, 3]])
@pytest.mark.parametrize("kind, types", [(KNOWN[0], False), (KNOWN[0], True), (KNOWN[1], False)])
def test_the_logits_are_the_networks_own(lengths, kind, types):
    model, inputs = bert(kind=kind), batch(lengths, types)
    with torch.inference_mode():
        own, fast = model(**inputs).logits, FastBert(model)(**inputs).logits
    assert own.std() > 0.1  # or equal logits would show nothing
    torch.testing.assert_close(fast, own, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("kind", KNOWN)
def test_one_layer_is_first_and_last(kind):
    model, inputs = bert(labels=2, kind=kind, num_hidden_layers=1), batch([5, 2])
    with torch.inference_mode():
        torch.testing.assert_close(FastBert(model)(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KNOWN)
def test_in_bfloat16_it_is_as_near_to_float32_as_the_network_is(kind):
    model, inputs = bert(kind=kind), batch([12] * 40 + [8] * 24)
    with torch.inference_mode():
        exact = model(**inputs).logits
        model.to(torch.bfloat16)
        own, fast = model(**inputs).logits.float(), FastBert(model)(**inputs).logits
    assert fast.dtype == torch.bfloat16
    away, usual = (fast.float() - exact).abs().mean(), (own - exact).abs().mean()
    assert 0 < away < 2 * usual


@pytest.mark.usefixtures("products")
def test_a_product_joins_layers_and_does_what_follows():
    first, second = nn.Linear(6, 4), nn.Linear(6, 3)
    x, plus = torch.randn(2, 5, 6), torch.randn(2, 5, 7)
    joined = torch.cat([first(x), second(x)], dim=2)
    with torch.inference_mode():
        torch.testing.assert_close(Product(first, second)(x), joined)
        torch.testing.assert_close(Product(first, second)(x, plus), joined + plus)
        torch.testing.assert_close(Product(first, after="gelu")(x), nn.functional.gelu(first(x)))


def test_only_networks_that_it_knows_are_laid_out():
    assert fits(bert()) and not fits(bert(hidden_act="relu"))
    assert not fits(RobertaForSequenceClassification(RobertaConfig(**SIZES)))

    class Changed(BertForSequenceClassification):
        pass

    assert not fits(Changed(BertConfig(**SIZES)))
    assert fits(bert().to(torch.bfloat16))
