"""The student against a hand-written numpy BiLSTM, and the properties that other replications break."""

import numpy as np
import pytest
import torch

from distil import student
from distil.student import BiLSTMStudent

SMALL = {"hidden_size": 5, "fc_size": 7, "num_labels": 3, "dropout": 0.0}
LENGTHS = torch.tensor([4, 1, 6])


def make(pair=False, channels="multichannel", pooling="last", vocabulary=11, width=4, **sizes):
    torch.manual_seed(0)
    vectors = torch.randn(vocabulary, width)
    vectors[0] = 0
    return BiLSTMStudent(vectors, **SMALL | sizes, pair=pair, channels=channels, pooling=pooling).eval()


def batch(seed=1, lengths=LENGTHS, padding=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 11, (len(lengths), int(lengths.max()) + padding), generator=generator)
    return ids * (torch.arange(ids.shape[1]) < lengths[:, None]), lengths


def inputs(pair, padding=0):
    first = batch(1, padding=padding)
    return (*first, *batch(2, torch.tensor([2, 5, 3]), padding)) if pair else first


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(vectors, lstm):
    """All states of a one-way LSTM, gate by gate (i, f, g, o)."""
    weights = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in lstm.named_parameters()}
    size = lstm.hidden_size
    h, c, states = np.zeros(size), np.zeros(size), []
    for x in vectors:
        gates = (
            weights["weight_ih_l0"] @ x + weights["weight_hh_l0"] @ h + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        )
        i, f, g, o = (gates[k * size : (k + 1) * size] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def numpy_encode(model, ids):
    vectors = np.concatenate([channel.weight.detach().numpy()[ids] for channel in model.channels], axis=1)
    ahead, back = numpy_lstm(vectors, model.forward_lstm), numpy_lstm(vectors[::-1], model.backward_lstm)
    if model.attention is None:
        return np.concatenate([ahead[-1], back[-1]])
    states = np.concatenate([ahead, back[::-1]], axis=1)  # both states of a word side by side
    scores = np.exp(states @ model.attention.weight.detach().numpy()[0])
    return scores / scores.sum() @ states


def linear(layer, x):
    return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()


def numpy_logits(model, *sentences):
    h = [numpy_encode(model, ids) for ids in sentences]
    features = h[0] if len(h) == 1 else np.concatenate([h[0], h[1], h[0] * h[1], np.abs(h[0] - h[1])])
    return linear(model.output, np.maximum(linear(model.fc, features), 0))


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_a_hand_written_bilstm_gives_the_same_logits(pair, pooling):
    model, arguments = make(pair, pooling=pooling), inputs(pair)
    logits = model(*arguments).detach().numpy()
    for row in range(3):
        sentences = [arguments[k][row, : arguments[k + 1][row]].numpy() for k in range(0, len(arguments), 2)]
        np.testing.assert_allclose(logits[row], numpy_logits(model, *sentences), atol=1e-5)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_padding_and_batch_order_change_nothing(pair, pooling):
    model, arguments = make(pair, pooling=pooling), inputs(pair)
    logits = model(*arguments)
    padded = [torch.nn.functional.pad(a, (0, 5), value=7) if a.dim() == 2 else a for a in arguments]
    torch.testing.assert_close(model(*padded), logits, atol=1e-6, rtol=0)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(*(a[order] for a in arguments)), logits[order], atol=1e-6, rtol=0)


def test_the_papers_parameter_count():
    model = BiLSTMStudent(
        torch.zeros(16_000, 300), hidden_size=150, fc_size=200, num_labels=2, pair=False, channels="multichannel",
        pooling="last", dropout=0.0,
    )  # fmt: skip
    assert model.num_parameters(embeddings=False) == 963_002
    assert model.num_parameters(embeddings=True) == 963_002 + 2 * 16_000 * 300


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize(
    "channels, tuned", [("random", [True]), ("static", [False]), ("tuned", [True]), ("multichannel", [False, True])]
)
def test_frozen_channels_get_no_gradient_and_all_else_does(channels, tuned, pair):
    model = make(pair, channels=channels, pooling="attention")
    model(*inputs(pair)).square().sum().backward()
    assert [channel.weight.grad is not None for channel in model.channels] == tuned
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.to_dense().abs().sum() > 0, name


def test_attention_gives_padding_no_weight():
    model = make(pooling="attention")
    weights = model.attention_weights(torch.randn(3, 8, 10), LENGTHS)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    assert all(weights[row, length:].abs().max() == 0 for row, length in enumerate(LENGTHS.tolist()))


def test_random_channel_ignores_the_given_values():
    vectors = torch.full((11, 4), 9.0)
    model = BiLSTMStudent(vectors, **SMALL, pair=False, channels="random", pooling="last")
    assert model.channels[0].weight.abs().max() <= student.UNKNOWN_RANGE


def test_dropout_acts_in_training_only():
    model = make(dropout=0.5)
    assert torch.equal(model(*inputs(False)), model(*inputs(False)))
    model.train()
    assert not torch.equal(model(*inputs(False)), model(*inputs(False)))


@pytest.mark.parametrize("pair", [False, True])
def test_save_and_load_give_the_same_logits(pair, tmp_path):
    model = make(pair)
    words = ["<pad>", "<unk>", *"abcdefghi"]
    student.save(tmp_path, model, words)
    loaded, loaded_words = student.load(tmp_path)
    assert loaded_words == words
    torch.testing.assert_close(loaded(*inputs(pair)), model(*inputs(pair)), atol=0, rtol=0)


def test_wrong_use_is_an_error():
    with pytest.raises(ValueError, match="two sentences"):
        make(pair=True)(*inputs(False))
    with pytest.raises(ValueError, match="one sentence"):
        make(pair=False)(*inputs(True))
    with pytest.raises(ValueError, match="channels"):
        make(channels="both")
