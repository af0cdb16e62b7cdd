"""The objective against algebra, AdaDelta against PyTorch's, and the loop against a plain one."""

import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from scipy.special import softmax
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from distil import augment, batching, config, train, transfer
from distil import student as student_module
from distil.batching import Column, Examples, bucketed_batches
from distil.student import BiLSTMStudent

ROOT = Path(__file__).parents[1]
SETTINGS = {"alpha": 0.0, "objective": "mse", "temperature": 1.0, "epochs": 4, "patience": 0}
SETTINGS |= {"batch_size": 16, "lr": 1.0, "rho": 0.95, "schedule": "constant"}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_loss_and_its_gradient_equal_the_algebra(alpha):
    rng = np.random.default_rng(0)
    zs, zb, targets = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.integers(3, size=6)
    student, given = torch.tensor(zs, requires_grad=True), (torch.tensor(zb), torch.tensor(targets))
    loss = train.distillation_loss(student, *given, alpha)
    loss.backward()
    cross_entropy = -np.log(softmax(zs, axis=1)[np.arange(6), targets]).mean()
    expected = alpha * cross_entropy + (1 - alpha) * ((zs - zb) ** 2).sum(axis=1).mean()
    gradient = alpha * (softmax(zs, axis=1) - np.eye(3)[targets]) / 6
    gradient += (1 - alpha) * 2 * (zs - zb) / len(zs)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-12)
    for missing, rest in (("targets", (given[0], None)), ("teacher logits", (None, given[1]))):
        with pytest.raises(ValueError, match=missing):
            train.distillation_loss(student, *rest, 0.5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_and_its_gradient_equal_the_algebra(temperature):
    """T^2 sum p log(p / q), softened by T; the gradient is T (q - p) / B (Hinton et al. 2015)."""
    rng = np.random.default_rng(2)
    zs, zb = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    student = torch.tensor(zs, requires_grad=True)
    soft = {"objective": "kl", "temperature": temperature}
    loss = train.distillation_loss(student, torch.tensor(zb), None, 0.0, **soft)
    loss.backward()
    p, q = (softmax(z / temperature, axis=1) for z in (zb, zs))
    assert loss.item() == pytest.approx(temperature**2 * (p * np.log(p / q)).sum() / 6, abs=1e-12)
    np.testing.assert_allclose(student.grad.numpy(), temperature * (q - p) / 6, atol=1e-12)


def regression(optimizer_class, sparse):
    """Fit sums of word vectors for a few steps; most words are missing from most batches."""
    torch.manual_seed(0)
    words, layer = nn.Embedding(40, 6, padding_idx=0, sparse=sparse), nn.Linear(6, 3)
    optimizer = optimizer_class([*words.parameters(), *layer.parameters()], lr=1.0, rho=0.95)
    losses = []
    for step in range(60):
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
    losses, words, layer = regression(train.LazyAdadelta, sparse)
    expected_losses, expected_words, expected_layer = regression(torch.optim.Adadelta, sparse=False)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    torch.testing.assert_close(words, expected_words, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer, expected_layer, atol=1e-5, rtol=1e-4)


def problem():
    """The first word decides; the teacher's logits are a margin of 4 with the right sign."""
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=150)
    rest = [" ".join(rng.choice(["a", "b", "c"], rng.integers(1, 9))) for _ in labels]
    texts = [f"{'good' if y else 'bad'} {words}" for y, words in zip(labels, rest, strict=True)]
    ids = {word: i for i, word in enumerate(["<pad>", "<unk>", "good", "bad", "a", "b", "c"])}
    logits = np.stack([2 - 4.0 * labels, 4.0 * labels - 2], axis=1).astype(np.float32)
    return Examples((Column.of(texts, ids),), labels, logits)


def new_student(channels="tuned", dropout=0.2):
    torch.manual_seed(3)
    vectors = torch.empty(7, 8).uniform_(-0.25, 0.25)
    sizes = {"hidden_size": 12, "fc_size": 10, "num_labels": 2, "pair": False}
    return BiLSTMStudent(vectors, **sizes, channels=channels, pooling="last", dropout=dropout)


def fit(student, path, examples=None, judges=None, seed=0, **changes):
    """Train on ``examples`` and choose an epoch on the whole problem."""
    settings, judges = SimpleNamespace(**SETTINGS | changes), judges or {"dev": problem()}
    rest = {"seed": seed, "checkpoint": path}
    return train.train_student(student, examples or problem(), judges, settings, **rest)


def accuracy(student):
    examples = problem()
    return (train.predict(student, examples).argmax(axis=1) == examples.targets).mean()


@pytest.mark.parametrize("seed, alpha, objective, end", [(0, 0.0, "mse", 1), (2, 0.3, "kl", 0)])
def test_the_loop_takes_the_steps_of_a_plain_one(seed, alpha, objective, end, tmp_path):
    """It is all PyTorch's own, so the vectors are frozen, and nothing in it saves time."""
    student, plain, examples = new_student("static", 0.5), new_student("static", 0.5), problem()
    loss_of = {"alpha": alpha, "objective": objective, "temperature": 3.0}
    rest = {"lr": 0.7, "rho": 0.9, "schedule": ("linear", "constant")[end]}
    history = fit(student, tmp_path / "c.pt", seed=seed, **rest, **loss_of)
    weights = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adadelta(weights, lr=0.7, rho=0.9)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end, total_iters=4 * 10)
    losses, scores, states = [], [], []
    for epoch in range(4):
        torch.manual_seed(1000 * seed + epoch)
        total, rng = 0.0, np.random.default_rng([seed, epoch])
        for rows in bucketed_batches(examples.lengths, 16, rng=rng):
            optimizer.zero_grad()
            z = plain.train()(*examples.columns[0].batch(rows))
            given = (torch.tensor(x[rows]) for x in (examples.teacher_logits, examples.targets))
            loss = train.distillation_loss(z, *given, **loss_of)
            loss.backward()
            optimizer.step()
            falling.step()
            total += loss.item() * len(rows) / len(examples)
        losses.append(total)
        scores.append(accuracy(plain))
        states.append({name: tensor.clone() for name, tensor in plain.state_dict().items()})
    assert [entry["loss"] for entry in history] == pytest.approx(losses, abs=1e-4)
    assert [entry["dev_accuracy"] for entry in history] == pytest.approx(scores)
    for name, tensor in states[int(np.argmax(scores))].items():
        torch.testing.assert_close(student.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)


def scored(monkeypatch, *scores):
    """Give the epochs of the next run these scores."""
    given = iter(scores)
    monkeypatch.setattr(train.metrics, "evaluate", lambda *_: {"accuracy": next(given)})


def test_the_loop_keeps_the_best_epoch_not_the_last(tmp_path, monkeypatch):
    student, second = new_student(), new_student()
    scored(monkeypatch, 0.5, 0.9, 0.7, 0.9)
    fit(student, tmp_path / "a.pt")
    scored(monkeypatch, 0.5, 0.9)
    fit(second, tmp_path / "b.pt", epochs=2)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, student.state_dict()[name])
    for patience, epochs in ((0, 4), (1, 2), (2, 3), (3, 4)):  # it counts those since the best
        scored(monkeypatch, 0.5, 0.4, 0.5, 0.6)
        assert len(fit(new_student(), tmp_path / f"{patience}", patience=patience)) == epochs


def test_the_first_judge_chooses_the_epoch_and_stops(tmp_path):
    """Its labels are inverted, so that the epoch it finds best is the worst on dev."""
    inverted = replace(problem(), targets=1 - problem().targets)
    student, judges = new_student(), {"held_out": inverted, "dev": problem()}
    history = fit(student, tmp_path / "c.pt", judges=judges)
    scores = [entry["dev_accuracy"] for entry in history]
    judged = [entry["held_out_accuracy"] for entry in history]
    assert judged == pytest.approx([1 - score for score in scores])
    assert accuracy(student) == pytest.approx(min(scores)) and max(scores) > 0.95
    assert history[-1]["loss"] < history[0]["loss"]
    stopped = fit(new_student(), tmp_path / "d.pt", judges=judges, patience=1)
    assert len(stopped) == 1 + next(i for i in range(1, 4) if scores[i] >= min(scores[:i]))


def test_the_judge_is_a_share_of_whole_sentences_and_no_phrase_of_them_alone_is_trained_on():
    """Against a search of every text in every other, among texts of few words, some empty."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(list("abcdef"), rng.integers(0, 9))) for _ in range(400)]
    judge, left_out = train.hold_out(texts, 0.3)
    inside = [{b for b in texts if f" {a} " in f" {b} "} - {a} for a in texts]
    whole = {text for text, longer in zip(texts, inside, strict=True) if not longer}
    held = {text for text, one in zip(texts, judge, strict=True) if one}
    assert held < whole and 0.15 < len(held) / len(whole) < 0.45
    for text, longer, judges, out in zip(texts, inside, judge, left_out, strict=True):
        assert judges == (text in held) and (not text or out == ((longer | {text}) & whole <= held))
    assert not np.any(train.hold_out(texts, 0.0))


@pytest.mark.parametrize("arm", ["plain", "distilled"])
def test_chapter_04_trains_on_no_held_out_row(arm, monkeypatch):
    """A sentence is two words of its own. Its phrases, each of the words, are rows too."""
    rows = [str(number) for number in range(200)]
    rows += [f"{one} {one + 1}" for one in range(0, 200, 2)]
    split = Dataset.from_dict({"sentence1": rows, "label": [0] * 300})
    drawn = {"idx": [*range(300)] * 2, "kind": [0] * 300 + [1] * 300, "sentence1": rows * 2}
    drawn["logits"] = pa.array([[0.0, 1.0]] * 600, pa.list_(pa.float32()))
    monkeypatch.setattr(transfer, "read", lambda folder: pa.table(drawn))
    step = SimpleNamespace(sibling=lambda stage: SimpleNamespace(files=lambda: None))
    names = vars(batching) | {"np": np, "student": student_module, "transfer": transfer}
    names |= {"augment": augment, "config": config, "arm": arm, "step": step, "seed": 0}
    names |= {"spec": SimpleNamespace(columns=("sentence1",))}
    names |= {"vocabulary": {row: int(row) for row in rows[:200]}}
    names |= {"splits": {"train": split, "dev": split}, "held_out": 0.3, "train": train}
    names |= {"alpha": float(arm == "plain"), "synthetic": float(arm != "plain")}
    cells = nbformat.read(ROOT / "notebooks" / "04_student.ipynb", 4).cells
    for cell in (cell for cell in cells if re.match("def examples|drawn = 0", cell.source)):
        exec(cell.source, names)
    judged = names["judges"]["held_out"].columns[0]
    trained, judges = ({*one.flat} for one in (names["training"].columns[0], judged))
    assert len(judges) > 30 and not trained & judges and trained | judges == {*range(200)}
    assert {*judged.lengths} == {2}
    assert len(names["training"]) == (3 if arm == "plain" else 6) * len(trained) / 2
    assert list(names["judges"]) == ["held_out", "dev"]


class Reads(TorchDispatchMode):
    """Counts how often a number of a tensor is read, for which a GPU would stand still."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


def test_an_epoch_reads_its_loss_once():
    model, settings = new_student(), SimpleNamespace(**SETTINGS)
    optimizer = train.LazyAdadelta(model.parameters())
    with Reads() as reads:
        train._epoch(model, problem(), optimizer, settings, [0, 0], tqdm(disable=True))
    assert reads.count == 1


KILLED = """
import os, signal, sys
sys.path.insert(0, "tests")
import test_train
from test_train import train
original, steps = train.distillation_loss, iter(range(1000))
def dies_in_the_third_epoch(*args, **kwargs):
    if next(steps) == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
train.distillation_loss = dies_in_the_third_epoch
test_train.fit(test_train.new_student(), test_train.Path(sys.argv[1]))
"""


def without_times(history):
    return [{key: entry[key] for key in ("loss", "dev_accuracy")} for entry in history]


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    whole, resumed = new_student(), new_student()
    history = fit(whole, tmp_path / "a.pt")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "b.pt")]
    died = subprocess.run(command, cwd=ROOT, timeout=120, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    saved = (tmp_path / "b.pt").read_bytes()
    again = fit(resumed, tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() != saved
    assert without_times(again) == without_times(history)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_damaged_checkpoint_is_named_and_training_starts_again(tmp_path, capsys):
    path = tmp_path / "c.pt"
    history = fit(new_student(), path, epochs=1)
    raw = path.read_bytes()
    places = np.random.default_rng(0).integers(len(raw), size=9)
    flipped = [raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :] for i in places]
    for damaged in (raw[: len(raw) // 2], b"", *flipped):
        path.write_bytes(damaged)
        again = fit(new_student(), path, epochs=1)
        assert "c.pt is damaged: training starts again" in capsys.readouterr().out
        assert without_times(again) == without_times(history)


@pytest.mark.parametrize("value, objective", [(np.nan, "mse"), (np.inf, "kl")])
def test_what_is_not_finite_stops_training(value, objective, tmp_path):
    examples, student = problem(), new_student()
    examples.teacher_logits[7, 1] = value
    with pytest.raises(ValueError, match=r"^the student's logits are not finite: .*$"):
        fit(student, tmp_path / "c.pt", examples, objective=objective)
    assert not (tmp_path / "c.pt").exists()
    student.channels[0].weight.data[4] = value
    with pytest.raises(ValueError, match="not finite"):
        train.predict(student, problem())
