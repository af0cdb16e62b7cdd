"""FastBert returns the logits of the network's own ``forward``: padded or not, packed or not."""

import pytest
import torch
import transformers

from distil.speed.fastbert import KNOWN, FastBert, fits

SIZES = {"vocab_size": 50, "hidden_size": 48, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 80, "num_hidden_layers": 3}
PAD = 1  # MPNet's; for BERT, which uses the mask, it is a word like others


def network(kind=KNOWN[0], labels=3, **changes):
    torch.manual_seed(3)
    model = kind(kind.config_class(**SIZES | changes, num_labels=labels)).eval()
    with torch.no_grad():  # a new network is nearly linear and has no biases
        for tensor in model.parameters():
            tensor.mul_(4) if tensor.dim() == 2 else tensor.add_(0.5 * torch.randn_like(tensor))
    return model


def batch(lengths, types=False):
    ids, longest = torch.randint(2, 50, (len(lengths), max(lengths))), torch.arange(max(lengths))
    mask = (longest < torch.tensor(lengths)[:, None]).long()
    found = {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}
    return found | ({"token_type_ids": (longest > 2).long().expand_as(ids)} if types else {})


@pytest.fixture(params=["packed", "plain"])
def products(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    elif not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("lengths", [[7, 7, 7], [9, 4, 1, 6], [1], [40, 3]])
@pytest.mark.parametrize("kind, types", [(KNOWN[0], False), (KNOWN[0], True), (KNOWN[1], False)])
def test_the_logits_are_those_of_the_network(lengths, kind, types, layers):
    model, inputs = network(kind, num_hidden_layers=layers), batch(lengths, types)
    with torch.inference_mode():
        own, fast = model(**inputs).logits, FastBert(model)(**inputs).logits
    assert own.std() > 0.1  # equal logits would show nothing
    torch.testing.assert_close(fast, own, atol=1e-5, rtol=1e-5)


def test_only_known_networks_fit():
    changed = type("Changed", (KNOWN[0],), {})
    strange = [network(transformers.RobertaForSequenceClassification), network(changed)]
    assert fits(network()) and fits(network().to(torch.bfloat16))
    strange += [network(hidden_act="relu"), network(is_decoder=True)]
    assert not any(map(fits, strange))
