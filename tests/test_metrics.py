"""Scores by hand; intervals and tests against what is known."""

import numpy as np
import pytest

from distil.metrics import bootstrap, calibration_error, evaluate, fallback, interval, margin


def test_accuracy_and_f1_by_hand():
    logits = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [0, 1]])
    labels = np.array([1, 0, 1, 0, 1])  # 2 true and 1 false positive, 1 false and 1 true negative
    assert evaluate(logits, labels, 1) == pytest.approx({"accuracy": 3 / 5, "f1": 2 / 3})
    assert evaluate(logits, labels, 0)["f1"] == 1 / 2 and "f1" not in evaluate(logits, labels)
    assert evaluate(np.array([[1, 0]]), np.array([0]), 1)["f1"] == 0.0


def test_a_draw_scores_the_drawn_examples_which_are_the_same_for_all_models():
    labels, answers = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])
    rows = np.random.default_rng(3).integers(4, size=4)
    wanted = evaluate(np.eye(2)[answers[rows]], labels[rows], 1)
    for metric in ("accuracy", "f1"):
        assert bootstrap([answers[None]], labels, metric, 3, 1, n=1)[0, 0] == wanted[metric]
    labels, answers = np.random.default_rng(1).integers(2, size=(2, 300))
    draws = bootstrap([answers[None], answers[None]], labels, "f1", 0, 1, n=50)
    assert (draws[:, 0] == draws[:, 1]).all() and draws[:, 0].std() > 0
    assert interval(np.arange(1001)[::-1]) == (25, 975)  # the middle 95%


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_seeds_vary_as_much_as_their_mean_does(seeds):
    """Without variation of the examples, the variance of a draw is that of a mean of S seeds."""
    right = np.linspace(0, 1, seeds).round()  # each seed is always or never right
    answers = np.repeat(right[:, None], 50, axis=1)
    draws, other = bootstrap([answers] * 2, np.ones(50), "accuracy", seed=0, n=20_000).T
    assert draws.mean() == pytest.approx(right.mean(), abs=0.01)
    assert draws.var() == pytest.approx(right.var(ddof=1) / seeds, rel=0.05)
    assert (other - draws).var() == pytest.approx(2 * draws.var(), rel=0.05)  # seeds are no pairs


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_the_true_gain(seeds):
    """Here 94% each, without the factor sqrt(S / (S - 1)) 91%; where seeds vary by 4 points, 87%."""
    covered = []
    for trial in range(400):
        rng = np.random.default_rng([trial, seeds])
        hard = rng.random(300)  # the same examples are hard for both models
        scores = [mean + 0.01 * rng.standard_normal((seeds, 1)) for mean in (0.80, 0.84)]
        models = [(hard < score).astype(int) for score in scores]
        draws = bootstrap(models, np.ones(300), "accuracy", trial, n=400)
        low, high = interval(draws[:, 1] - draws[:, 0])
        covered.append(low <= 0.04 <= high)
    assert 0.925 <= np.mean(covered) <= 0.975


def test_the_calibration_error_of_a_model_that_knows_how_sure_it_is_and_of_one_that_does_not():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.5, 1, 20_000)
    labels = (rng.random(20_000) > probability).astype(int)
    logits = np.log(np.stack([probability, 1 - probability], axis=1))
    error = calibration_error(logits, labels)
    assert error < 0.01 and calibration_error(logits + 700, labels) == pytest.approx(error)
    sure = np.where(logits > logits.mean(axis=1, keepdims=True), 9.0, 0.0)  # of all answers
    wrong = 1 - (sure.argmax(axis=1) == labels).mean()
    assert calibration_error(sure, labels) == pytest.approx(wrong, abs=0.002)


def test_the_teacher_answers_the_smallest_margins_by_hand():
    student = np.array([[3.0, 0, 1], [0, 0.5, 0], [1, 0, 0], [0, 5, 0]])
    labels, teacher = np.array([0, 0, 1, 0]), np.eye(3)[[0, 0, 1, 1]]
    assert margin(student).tolist() == [2, 0.5, 1, 5]
    assert fallback(student, teacher, labels).tolist() == [0.25, 0.5, 0.75, 0.75, 0.75]
    assert fallback(student, np.eye(3)[[1, 1, 0, 1]], labels).tolist() == [0.25, 0.25, 0.25, 0, 0]
