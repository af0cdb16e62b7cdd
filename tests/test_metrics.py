"""Scores by hand; intervals and tests against what is known."""

import numpy as np
import pytest

from distil.metrics import bootstrap, evaluate, interval, mcnemar, reliability


def test_accuracy_and_f1_by_hand():
    logits = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [0, 1]])
    labels = np.array([1, 0, 1, 0, 1])  # 2 true and 1 false positive, 1 false and 1 true negative
    assert evaluate(logits, labels, 1) == pytest.approx({"accuracy": 3 / 5, "f1": 2 / 3})
    assert evaluate(logits, labels, 0)["f1"] == pytest.approx(1 / 2)
    assert "f1" not in evaluate(logits, labels)
    assert evaluate(np.array([[1, 0]]), np.array([0]), 1)["f1"] == 0.0


def test_an_interval_is_the_middle_95_percent():
    assert interval(np.arange(1001)[::-1]) == (25, 975)


def test_a_draw_scores_the_drawn_examples():
    labels, answers = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])
    rows = np.random.default_rng(3).integers(4, size=4)
    wanted = evaluate(np.eye(2)[answers[rows]], labels[rows], 1)
    for metric in ("accuracy", "f1"):
        assert bootstrap([answers[None]], labels, metric, 3, 1, n=1)[0, 0] == wanted[metric]


def test_all_models_answer_the_same_draw():
    labels = np.random.default_rng(1).integers(2, size=300)
    answers = np.random.default_rng(2).integers(2, size=(1, 300))
    draws = bootstrap([answers, answers], labels, "f1", 0, 1, n=50)
    assert (draws[:, 0] == draws[:, 1]).all() and draws[:, 0].std() > 0
    with pytest.raises(ValueError, match=r"wanted 300 answers, got \[10\]"):
        bootstrap([answers[:, :10]], labels, "f1", seed=0)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_seeds_vary_as_much_as_their_mean_does(seeds):
    """Without variation of the examples, the variance of a draw is that of a mean of S seeds."""
    right = np.linspace(0, 1, seeds).round()  # each seed is always or never right
    answers = np.repeat(right[:, None], 50, axis=1)
    draws = bootstrap([answers], np.ones(50), "accuracy", seed=0, n=20_000)[:, 0]
    assert draws.mean() == pytest.approx(right.mean(), abs=0.01)
    assert draws.var() == pytest.approx(right.var(ddof=1) / seeds, rel=0.05)


def simulate(rng: np.random.Generator, seeds: int) -> list[np.ndarray]:
    """Return whether two models are right [seeds, 300]; 80 and 84 %, seeds deviate by 1 point."""
    hard = rng.random(300)  # the same examples are hard for all
    scores = [mean + 0.01 * rng.standard_normal((seeds, 1)) for mean in (0.80, 0.84)]
    return [(hard < score).astype(int) for score in scores]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_the_true_gain(seeds):
    """Here 94% each, without the factor sqrt(S / (S - 1)) 91% with 3 seeds.

    Seeds on record deviate by less than one point. With four, 3 seeds cover only 87%.
    """
    covered = []
    for trial in range(400):
        models = simulate(np.random.default_rng([trial, seeds]), seeds)
        draws = bootstrap(models, np.ones(300), "accuracy", trial, n=400)
        low, high = interval(draws[:, 1] - draws[:, 0])
        covered.append(low <= 0.04 <= high)
    assert 0.925 <= np.mean(covered) <= 0.975


def test_reliability_of_a_model_that_knows_how_sure_it_is():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.5, 1, 20_000)
    labels = (rng.random(20_000) > probability).astype(int)
    logits = np.log(np.stack([probability, 1 - probability], axis=1))
    sure, right = reliability(logits, labels, bins=5)
    np.testing.assert_allclose(sure, [0.55, 0.65, 0.75, 0.85, 0.95], atol=0.01)
    np.testing.assert_allclose(right, sure, atol=0.03)
    np.testing.assert_allclose(reliability(logits + 700, labels, bins=5)[0], sure)


def test_mcnemar_by_hand():
    a, b = np.array([1] * 8 + [0] * 2 + [1] * 5), np.array([0] * 8 + [1] * 2 + [1] * 5)
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # 2 of 10 on the rarer side
    assert mcnemar(a, a) == 1.0
