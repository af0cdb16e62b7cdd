"""Scores by hand; intervals and tests against what is known."""

import numpy as np
import pytest

from distil import metrics
from distil.metrics import bootstrap_difference, evaluate, mcnemar


def test_accuracy_and_f1_by_hand():
    logits = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [0, 1]])
    labels = np.array([1, 0, 1, 0, 1])  # 2 true positives, 1 false positive, 1 false negative, 1 true negative
    assert evaluate(logits, labels, f1=True) == {"accuracy": pytest.approx(3 / 5), "f1": pytest.approx(2 / 3)}
    assert "f1" not in evaluate(logits, labels)
    assert evaluate(np.array([[1, 0]]), np.array([0]), f1=True)["f1"] == 0.0


def test_mcnemar_by_hand():
    a, b = np.array([1] * 8 + [0] * 2 + [1] * 5), np.array([0] * 8 + [1] * 2 + [1] * 5)
    tail = sum([1, 10, 45]) / 2**10  # 10 differing examples, at most 2 on the rarer side
    assert mcnemar(a, b) == pytest.approx(2 * tail)
    assert mcnemar(a, a) == 1.0


def test_the_interval_covers_a_known_difference():
    rng, covered = np.random.default_rng(0), 0
    for trial in range(60):
        a, b = (rng.random((1, 400)) < p for p in (0.70, 0.78))
        _, low, high = bootstrap_difference(a, b, seed=trial, n_boot=300)
        covered += low <= 0.08 <= high
    assert covered >= 51  # 95% of 60 is 57; below 51 has a chance under 1 in 1,000


def test_the_interval_is_paired_over_examples():
    rng = np.random.default_rng(1)
    a = rng.random((1, 500)) < 0.7
    mean, low, high = bootstrap_difference(a, a, seed=0)
    assert mean == low == high == 0
    with pytest.raises(ValueError, match="same examples"):
        bootstrap_difference(a, a[:, :10], seed=0)


def test_several_seeds_widen_the_interval_when_they_differ():
    rng = np.random.default_rng(2)
    steady = np.repeat(rng.random((1, 800)) < 0.8, 3, axis=0)
    shaky = np.stack([rng.random(800) < p for p in (0.6, 0.8, 1.0)])
    widths = [np.ptp(bootstrap_difference(steady, b, seed=0, n_boot=500)[1:]) for b in (steady, shaky)]
    assert widths[0] == 0 and widths[1] > 0.1


def test_reliability_of_a_model_that_knows_how_sure_it_is():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.5, 1, 20_000)
    labels = (rng.random(20_000) > probability).astype(int)  # class 0 with the probability that the model gives it
    logits = np.stack([np.log(probability), np.log(1 - probability)], axis=1)
    sure, right = metrics.reliability(logits, labels, bins=5)
    np.testing.assert_allclose(sure, [0.55, 0.65, 0.75, 0.85, 0.95], atol=0.01)
    np.testing.assert_allclose(right, sure, atol=0.03)
    shifted_sure, _ = metrics.reliability(logits + 700, labels, bins=5)  # a constant shift of all logits means nothing
    np.testing.assert_allclose(shifted_sure, sure)
