"""The student against a hand-written numpy BiLSTM; what is saved is what is loaded and answers."""

import json
import subprocess
import sys
from unittest import mock

import huggingface_hub
import numpy as np
import pytest
import release
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.special import expit
from torch.nn import functional

import distil
from distil import config, records, student, words
from distil.batching import MAX_WORDS, Column, encode
from distil.student import BiLSTMStudent

ODD = ["M", "Cc", "Cs", "Nl", "No"]  # kinds of characters that `regex` and `re` read differently
SMALL, LENGTHS = {"hidden_size": 5, "fc_size": 7, "num_labels": 3, "dropout": 0.0}, (4, 1, 6)
WORDS = ["<pad>", "<unk>", "good", "bad", "a\nb", "c\rd", "\u2028", "\x1c", '"', "", "é"]
LABELS = ["no", "perhaps", "yes"]


def make(pair=False, channels="multichannel", pooling="last", **sizes):
    torch.manual_seed(0)
    vectors = torch.randn(len(WORDS), 4)
    vectors[0] = 0
    settings = SMALL | sizes
    return BiLSTMStudent(vectors, **settings, pair=pair, channels=channels, pooling=pooling).eval()


def inputs(pair, lengths=LENGTHS):
    torch.manual_seed(1)
    columns = [torch.tensor(column) for column in (lengths, (2, 5, 3))[: 1 + pair]]
    return [x for n in columns for x in (torch.randint(2, len(WORDS), (len(n), int(n.max()))), n)]


def numpy_lstm(vectors, lstm):
    """Return all states of a one-way LSTM, gate by gate (i, f, g, o)."""
    w = {name: tensor.detach().double().numpy() for name, tensor in lstm.named_parameters()}
    h, c, states = np.zeros(lstm.hidden_size), np.zeros(lstm.hidden_size), []
    for x in vectors:
        gates = w["weight_ih_l0"] @ x + w["weight_hh_l0"] @ h + w["bias_ih_l0"] + w["bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def numpy_encode(model, ids):
    vectors = np.hstack([channel.weight.detach().numpy()[ids] for channel in model.channels])
    ahead = numpy_lstm(vectors, model.forward_lstm)
    back = numpy_lstm(vectors[::-1], model.backward_lstm)
    if model.attention is None:
        return np.concatenate([ahead[-1], back[-1]])
    states = np.hstack([ahead, back[::-1]])  # both states of a word side by side
    scores = np.exp(states @ model.attention.weight.detach().numpy()[0])
    return scores / scores.sum() @ states


def numpy_logits(model, *sentences):
    w = {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
    h = [numpy_encode(model, ids) for ids in sentences]
    if len(h) == 2:
        h = [h[0], h[1], h[0] * h[1], np.abs(h[0] - h[1])]
    hidden = np.maximum(w["fc.weight"] @ np.concatenate(h) + w["fc.bias"], 0)
    return w["output.weight"] @ hidden + w["output.bias"]


@pytest.mark.parametrize("lengths", [LENGTHS, (130, 40, 64)])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_a_hand_written_bilstm_gives_the_same_logits_whatever_the_padding(pair, pooling, lengths):
    model, arguments = make(pair, pooling=pooling), inputs(pair, lengths)
    padded = [functional.pad(a, (0, 5), value=7) if a.dim() == 2 else a for a in arguments]
    logits = model(*padded).detach().numpy()
    for row in range(3):
        halves = zip(arguments[::2], arguments[1::2], strict=True)
        sentences = [ids[row, : length[row]].numpy() for ids, length in halves]
        np.testing.assert_allclose(logits[row], numpy_logits(model, *sentences), atol=1e-5)


def test_the_papers_parameter_count():
    sizes = {"hidden_size": 150, "fc_size": 200, "num_labels": 2, "dropout": 0.0, "pair": False}
    vectors = torch.zeros(16_000, 300)
    model = BiLSTMStudent(vectors, **sizes, channels="multichannel", pooling="last")
    assert model.num_parameters(embeddings=False) == 963_002
    assert model.num_parameters(embeddings=True) == 963_002 + 2 * vectors.numel()
    for pair, wanted in ((True, "reads 2 sentence"), (False, "reads 1 sentence")):
        with pytest.raises(ValueError, match=wanted):
            make(pair)(*inputs(not pair))
    with pytest.raises(ValueError, match="'both'"):
        make(channels="both")


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("channels", student.FROZEN)
def test_frozen_channels_get_no_gradient_and_all_else_does(channels, pair):
    model = make(pair, channels=channels, pooling="attention")
    model(*inputs(pair)).square().sum().backward()
    wanted = {"random": "t", "static": "f", "tuned": "t", "multichannel": "ft"}[channels]
    assert ["t" if one.weight.grad is not None else "f" for one in model.channels] == list(wanted)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.to_dense().abs().sum() > 0, name
    assert len({one.weight.data_ptr() for one in model.channels}) == len(wanted)  # none is shared
    largest = model.channels[0].weight[1:].abs().max()  # random channels ignore the given values
    assert (0 < largest <= student.UNKNOWN_RANGE) == (channels == "random")
    assert model.channels[0].weight[0].abs().max() == 0


def test_dropout_is_on_the_relu_layer_and_in_training_only():
    model, arguments = make(dropout=0.5), inputs(False)
    assert torch.equal(model(*arguments), model(*arguments))
    hidden = torch.relu(model.fc(model.encode(*arguments)))
    torch.manual_seed(4)
    expected = model.output(functional.dropout(hidden, 0.5))
    torch.manual_seed(4)
    torch.testing.assert_close(model.train()(*arguments), expected)


@pytest.mark.parametrize("pair", [False, True])
def test_what_is_saved_is_what_is_loaded(pair, tmp_path, capfd):
    for channels, pooling in (("random", "attention"), ("multichannel", "last")):
        student.save(tmp_path / "s", model := make(pair, channels, pooling), WORDS, LABELS)
        loaded, ids = student.load(tmp_path / "s")
        assert list(ids) == WORDS and list(ids.values()) == list(range(len(WORDS)))
        assert torch.equal(loaded(*inputs(pair)), model(*inputs(pair)))
    assert capfd.readouterr() == ("", "")


@pytest.fixture(params=[False, True], ids=["single", "pair"])
def released(request, tmp_path):
    net = make(request.param)
    with torch.no_grad():
        net.output.weight.mul_(9)
        net.output.bias.zero_()
    student.save(tmp_path, net, WORDS, LABELS)
    release.fill(tmp_path)
    return tmp_path


def texts_of(model, n):
    texts = ["Good bad good. " * (7 * i % 5) + ["", "bad", "é"][i % 3] for i in range(n)]
    return list(zip(texts, texts[::-1], strict=True)) if model.pair else texts


def test_every_runtime_gives_the_probabilities_of_the_student(released, monkeypatch):
    net, ids = student.load(released)
    monkeypatch.setattr(distil, "BATCH", 4)
    models = [distil.load(released, name) for name in release.compare.FORMS]
    texts, wanted = texts_of(models[0], 23), []
    for text in texts:
        rows = [words.tokenize(part) for part in (text if models[0].pair else [text])]
        rows = [torch.tensor([encode(row, ids)]) for row in rows]
        inputs = [part for row in rows for part in (row, torch.tensor([row.shape[1]]))]
        wanted.append(net(*inputs).softmax(dim=1).detach().numpy()[0])
    for model, error in zip(models, (1e-6, 1e-6, 0.1), strict=True):
        np.testing.assert_allclose(model.predict_proba(texts), wanted, atol=error)
        alone = model(texts[3])[0]["score"]
        assert model(texts)[3]["score"] == pytest.approx(alone, abs=error)
    best = [{"label": LABELS[row.argmax()], "score": pytest.approx(row.max())} for row in wanted]
    assert models[0](texts) == best and models[1](texts) == best
    assert np.ptp(wanted, axis=0).max() > 0.03
    (released / "tokenizer.json").unlink()  # as before a release
    assert distil.load(released)(texts) == models[1](texts)


def test_what_is_no_text_and_what_is_no_student_is_one_line(released, monkeypatch):
    model, line = distil.load(released), r"^wanted [^\n]+, or a list of them, got [^\n]{1,90}$"
    good, mixed = texts_of(model, 1)[0], "x" if model.pair else ("x", "y")
    for wrong in ((), (None,), (1.5,), ([],), ([good, None],), (np.ones((2, 2)),), (mixed,)):
        with pytest.raises(ValueError, match=line):
            model(*wrong)
    hub = mock.Mock(return_value=str(released))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert distil.load("someone/student@0a")(good) == model(good)
    hub.assert_called_once_with("someone/student", revision="0a")
    hub.side_effect = OSError("no\nroute")
    with pytest.raises(ValueError, match=r"got 'someone/student@0a': no route$"):
        distil.load("someone/student@0a")
    for name in ("labels.json", "config.json", "vocabulary.json", "student.onnx"):
        whole = (released / name).read_bytes()
        (released / name).write_bytes(whole[: len(whole) // 2] if name < "v" else b"[]")
        with pytest.raises(ValueError, match=rf"^cannot load a student from .*{name}.* in [^\n]+$"):
            distil.load(released)
        (released / name).write_bytes(whole)
    (released / "labels.json").unlink()
    wrong = {"nowhere": "no such folder", None: "no such folder", released: "labels.json"}
    for name, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            distil.load(name)


def test_a_long_text_is_cut(tmp_path):
    student.save(tmp_path, make(), WORDS, LABELS)
    whole, model = "good " * MAX_WORDS, distil.load(tmp_path)
    assert model(whole + "bad " * 9) == model(whole) != model("good " * 9 + "bad")
    texts = ["", "a b", "w " * (MAX_WORDS - 1) + "w", "w " * MAX_WORDS + "w"]
    assert Column.of(texts, {}).lengths.tolist() == [1, 2, MAX_WORDS, MAX_WORDS]
    assert f"over {MAX_WORDS} words" in records.Step("data", "").notebook.read_text("utf-8")


@pytest.mark.parametrize("runtime, other", [("onnxruntime", "torch"), ("torch", "onnxruntime")])
def test_one_runtime_is_enough_and_nothing_else_is_imported(released, runtime, other):
    gone = ["nltk", "scipy", "pydantic", "datasets", "pandas", "pyarrow", "transformers", other]
    gone += ["huggingface_hub", "fcntl", "filelock"] * (runtime == "onnxruntime")
    model = distil.load(released)
    text = texts_of(model, 1)[0]
    script = f"import sys; sys.modules |= dict.fromkeys({gone}); import distil; "
    script += f"print(distil.load({str(released)!r})({text!r})[0]['score'])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True)
    assert done.stderr == "" and float(done.stdout) == pytest.approx(model(text)[0]["score"])


@pytest.fixture(scope="module")
def cut_by_rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "tokenizer.json"
    path.write_text(json.dumps({"rules": release.rules(), "max_words": 512}), encoding="utf-8")
    return distil._tokenizer(path)


@given(st.text(st.characters(exclude_categories=ODD) | st.sampled_from("'\".`,- nt")))
@example("''Mr. D'ye\u00a0cannot -- 'tis (\"it\"). “So”... I'M gonna. \"No\"")
def test_the_rules_of_a_release_cut_as_the_one_tokenizer_does(cut_by_rules, text):
    assume("İ" not in text)  # it becomes an i and an accent, which NLTK's `regex` calls a letter
    assert cut_by_rules(text) == words.tokenize(text)
