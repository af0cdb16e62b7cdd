"""Accuracy and F1, and what a difference between two models is worth. Numpy and scipy only."""

import numpy as np
from scipy.stats import binomtest


def evaluate(logits: np.ndarray, labels: np.ndarray, f1: bool = False) -> dict[str, float]:
    """Accuracy, and F1 of class 1 where the paper reports it.

    Args:
        logits: [N, labels]; labels: [N] of class numbers.

    Returns:
        ``{"accuracy": ...}``, with ``"f1"`` if asked for; fractions, not percent.
    """
    predicted = np.asarray(logits).argmax(axis=1)
    labels = np.asarray(labels)
    scores = {"accuracy": float((predicted == labels).mean())}
    if f1:
        hits = int(((predicted == 1) & (labels == 1)).sum())
        claimed, true = int((predicted == 1).sum()), int((labels == 1).sum())
        scores["f1"] = 2 * hits / (claimed + true) if claimed + true else 0.0
    return scores


def bootstrap_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, *, seed: int, n_boot: int = 2000
) -> tuple[float, float, float]:
    """Mean and 95% percentile interval of accuracy b - a, resampling examples and, where there are several, seeds.

    Args:
        correct_a, correct_b: [seeds, N] of 0/1: the same examples in the same order under both models. The two may have
            different numbers of seeds.

    Raises:
        ValueError: the two do not have the same examples.
    """
    if correct_a.shape[1] != correct_b.shape[1]:
        raise ValueError(f"both models need the same examples, got {correct_a.shape[1]} and {correct_b.shape[1]}")
    rng = np.random.default_rng(seed)
    draws = np.empty(n_boot)
    for i in range(n_boot):
        examples = rng.integers(correct_a.shape[1], size=correct_a.shape[1])
        means = [c[rng.integers(len(c), size=len(c))].mean(axis=0)[examples].mean() for c in (correct_a, correct_b)]
        draws[i] = means[1] - means[0]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(correct_b.mean() - correct_a.mean()), float(low), float(high)


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Mean confidence and accuracy [bins] of examples sorted by confidence (the largest softmax) into bins of equal number."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(sure, kind="stable"), bins)
    return np.array([sure[rows].mean() for rows in parts]), np.array([right[rows].mean() for rows in parts])


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Two-sided p of McNemar's exact test for two models on the same examples ([N] of 0/1 each)."""
    only_a = int((correct_a.astype(bool) & ~correct_b.astype(bool)).sum())
    only_b = int((correct_b.astype(bool) & ~correct_a.astype(bool)).sum())
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
