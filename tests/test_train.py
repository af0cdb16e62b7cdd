"""The objective against algebra, and the loop: it learns, resumes to the same weights, and refuses a foreign checkpoint."""

import dataclasses

import numpy as np
import pytest
import torch

from distil import train
from distil.batching import Column, Examples
from distil.config import StudentConfig
from distil.student import BiLSTMStudent

CONFIG = StudentConfig(
    "random:8",
    0,
    "tuned",
    12,
    10,
    "last",
    0.2,
    "mse",
    1.0,
    0.0,
    1.0,
    0.0,
    epochs=4,
    patience=0,
    batch_size=16,
    lr=1.0,
    rho=0.95,
)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_loss_and_its_gradient_equal_the_algebra(alpha):
    rng = np.random.default_rng(0)
    zs, zb, targets = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.integers(3, size=6)
    student = torch.tensor(zs, requires_grad=True)
    loss = train.distillation_loss(student, torch.tensor(zb), torch.tensor(targets), alpha)
    loss.backward()

    onehot = np.eye(3)[targets]
    cross_entropy = -np.log(softmax(zs)[np.arange(6), targets]).mean()
    expected = alpha * cross_entropy + (1 - alpha) * ((zs - zb) ** 2).mean()
    gradient = alpha * (softmax(zs) - onehot) / 6 + (1 - alpha) * 2 * (zs - zb) / zs.size
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_and_its_gradient_equal_the_algebra(temperature):
    """T^2 sum p log(p / q), p and q softened by T; its gradient is T (q - p) / B (Hinton et al. 2015, section 2.1)."""
    rng = np.random.default_rng(2)
    zs, zb = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    student = torch.tensor(zs, requires_grad=True)
    loss = train.distillation_loss(student, torch.tensor(zb), None, 0.0, objective="kl", temperature=temperature)
    loss.backward()
    p, q = softmax(zb / temperature), softmax(zs / temperature)
    assert loss.item() == pytest.approx(temperature**2 * (p * np.log(p / q)).sum() / 6, abs=1e-12)
    np.testing.assert_allclose(student.grad.numpy(), temperature * (q - p) / 6, atol=1e-12)


def test_hot_kl_becomes_the_distance_of_centred_logits():
    """At a high temperature KL is half the squared distance of logits, once their means are taken away (same reference)."""
    rng = np.random.default_rng(3)
    zs, zb = (z - z.mean(axis=1, keepdims=True) for z in rng.normal(size=(2, 6, 3)))
    hot = train.distillation_loss(torch.tensor(zs), torch.tensor(zb), None, 0.0, objective="kl", temperature=1e3)
    assert hot.item() == pytest.approx(((zs - zb) ** 2).sum() / 6 / (2 * 3), rel=1e-2)


def test_a_step_on_the_distillation_term_brings_the_logits_together():
    student, teacher = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, -3.0]])
    train.distillation_loss(student, teacher, None, 0.0).backward()
    stepped = student.detach() - 0.1 * student.grad
    assert (stepped - teacher).norm() < (student.detach() - teacher).norm()


def test_a_term_with_weight_needs_its_input():
    logits = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="targets"):
        train.distillation_loss(logits, logits, None, 0.5)
    with pytest.raises(ValueError, match="teacher logits"):
        train.distillation_loss(logits, None, torch.zeros(2, dtype=torch.long), 0.5)


@pytest.fixture
def problem():
    """The first word decides; the teacher's logits are a margin of 4 with the right sign."""
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=160)
    texts = [
        f"{'good' if label else 'bad'} {' '.join(rng.choice(['a', 'b', 'c'], rng.integers(1, 9)))}" for label in labels
    ]
    ids = {word: i for i, word in enumerate(["<pad>", "<unk>", "good", "bad", "a", "b", "c"])}
    logits = np.stack([2 - 4.0 * labels, 4.0 * labels - 2], axis=1).astype(np.float32)
    return Examples((Column.of(texts, ids),), labels, logits)


def new_student():
    torch.manual_seed(3)
    vectors = torch.empty(7, 8).uniform_(-0.25, 0.25)
    return BiLSTMStudent(
        vectors, hidden_size=12, fc_size=10, num_labels=2, pair=False, channels="tuned", pooling="last", dropout=0.2
    )


def test_the_loop_learns_and_keeps_the_best_epoch(problem, tmp_path):
    student = new_student()
    history, _ = train.train_student(student, problem, problem, CONFIG, seed=0, checkpoint=tmp_path / "c.pt")
    assert len(history) == CONFIG.epochs
    assert history[-1]["loss"] < history[0]["loss"]
    accuracy = (train.predict(student, problem).argmax(axis=1) == problem.targets).mean()
    assert accuracy == max(entry["dev_accuracy"] for entry in history) > 0.95


@pytest.mark.parametrize(("scores", "patience", "wanted"), [
    ([], 3, False), ([0.5], 1, False), ([0.5, 0.6, 0.6], 1, True), ([0.6, 0.5, 0.5], 2, True), ([0.6, 0.5, 0.7], 2, False),
    ([0.9, 0.1, 0.1, 0.1], 0, False),
])  # fmt: skip
def test_patience_counts_the_epochs_since_the_best(scores, patience, wanted):
    assert train._given_up([{"dev_accuracy": score} for score in scores], patience) is wanted


def test_training_stops_when_it_has_given_up(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_given_up", lambda history, patience: len(history) >= 2)
    history, best = train.train_student(new_student(), problem, problem, CONFIG, seed=0, checkpoint=tmp_path / "c.pt")
    assert len(history) == 2 and set(best) == {"dev"}


def test_held_out_examples_choose_an_epoch_of_their_own(problem, tmp_path):
    """Held-out labels are the wrong way round, so that the epoch which is best there is the worst on dev."""
    inverted = dataclasses.replace(problem, targets=1 - problem.targets)
    student = new_student()
    history, best = train.train_student(
        student, problem, problem, CONFIG, seed=0, checkpoint=tmp_path / "c.pt", held_out=inverted
    )
    scores = [entry["dev_accuracy"] for entry in history]
    assert [entry["held_out_accuracy"] for entry in history] == pytest.approx([1 - score for score in scores])
    for name, wanted in (("dev", max(scores)), ("held_out", min(scores))):
        student.load_state_dict(best[name])
        assert (train.predict(student, problem).argmax(axis=1) == problem.targets).mean() == pytest.approx(wanted)


def without_times(history):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


def test_a_stopped_run_resumes_to_the_same_bits(problem, tmp_path):
    whole, stopped, resumed = new_student(), new_student(), new_student()
    history, _ = train.train_student(whole, problem, problem, CONFIG, seed=0, checkpoint=tmp_path / "a.pt")

    class Stop(Exception):
        pass

    original, epochs = train._epoch, []

    def dies_in_third_epoch(*args, **kwargs):
        epochs.append(kwargs["epoch"])
        if kwargs["epoch"] == 2:
            raise Stop
        return original(*args, **kwargs)

    train._epoch = dies_in_third_epoch
    try:
        with pytest.raises(Stop):
            train.train_student(stopped, problem, problem, CONFIG, seed=0, checkpoint=tmp_path / "b.pt")
    finally:
        train._epoch = original
    again, _ = train.train_student(resumed, problem, problem, CONFIG, seed=0, checkpoint=tmp_path / "b.pt")
    assert without_times(again) == without_times(history) and all(entry["seconds"] >= 0 for entry in again)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"alpha": 0.5}])
def test_a_checkpoint_of_another_config_is_refused(problem, tmp_path, change):
    path = tmp_path / "c.pt"
    short = dataclasses.replace(CONFIG, epochs=1)
    train.train_student(new_student(), problem, problem, short, seed=0, checkpoint=path)
    other = dataclasses.replace(short, **change)
    with pytest.raises(train.CheckpointError, match="another config"):
        train.train_student(new_student(), problem, problem, other, seed=0, checkpoint=path)
    with pytest.raises(train.CheckpointError):
        train.train_student(new_student(), problem, problem, short, seed=1, checkpoint=path)


def test_a_checkpoint_of_another_version_of_the_code_is_refused(problem, tmp_path, monkeypatch):
    short = dataclasses.replace(CONFIG, epochs=1)
    train.train_student(new_student(), problem, problem, short, seed=0, checkpoint=tmp_path / "c.pt")
    train.train_student(new_student(), problem, problem, short, seed=0, checkpoint=tmp_path / "c.pt")
    monkeypatch.setattr(train, "code_digest", lambda *modules: "other code")
    with pytest.raises(train.CheckpointError, match="version of the code"):
        train.train_student(new_student(), problem, problem, short, seed=0, checkpoint=tmp_path / "c.pt")


def test_a_damaged_checkpoint_is_named(problem, tmp_path):
    path = tmp_path / "c.pt"
    train.train_student(new_student(), problem, problem, CONFIG, seed=0, checkpoint=path)
    raw = bytearray(path.read_bytes())
    flipped = [
        raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :] for i in np.random.default_rng(0).integers(len(raw), size=20)
    ]
    for damaged in (raw[: len(raw) // 2], b"", *flipped):
        path.write_bytes(damaged)
        with pytest.raises(train.CheckpointError, match=r"c\.pt in .* is damaged"):
            train.train_student(new_student(), problem, problem, CONFIG, seed=0, checkpoint=path)


def test_predictions_keep_the_order_of_the_examples(problem):
    student = new_student()
    together = train.predict(student, problem)
    for row in (0, 7, 159):
        rows = np.array([row])
        alone = student(*problem.inputs(rows, torch.device("cpu"))).detach().numpy()[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5)
