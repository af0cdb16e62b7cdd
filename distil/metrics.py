"""Scores of a classifier, intervals by bootstrap, and what the certainty of a model is worth."""

from collections.abc import Sequence

import numpy as np


def evaluate(
    logits: np.ndarray, labels: np.ndarray, positive: int | None = None
) -> dict[str, float]:
    """Return accuracy and F1 of class ``positive``, if any; logits [N, K], labels [N]."""
    counts = _counts(logits.argmax(axis=1)[None], labels, positive)
    once, names = np.ones(len(labels)), ("accuracy",) if positive is None else ("accuracy", "f1")
    return {name: float(_scores(counts, once, name)[0]) for name in names}


def _counts(predicted: np.ndarray, labels: np.ndarray, positive: int | None) -> np.ndarray:
    """Return [seeds, 3, N]: for each answer: right, a true positive, (positive + truly positive) / 2."""
    answered, true = predicted == (positive or 0), labels == (positive or 0)
    return np.stack([predicted == labels, answered & true, (answered * 1.0 + true) / 2], axis=1)


def _scores(counts: np.ndarray, weights: np.ndarray, metric: str) -> np.ndarray:
    """Return the score of each seed [seeds]; ``weights`` [N] says how often each example counts."""
    right, hits, positives = (counts @ weights).T
    if metric == "accuracy":
        return right / weights.sum()
    return hits / np.maximum(positives, 0.5)  # without any positive there are no hits: F1 is 0


def bootstrap(
    models: Sequence[np.ndarray],
    labels: np.ndarray,
    metric: str,
    seed: int,
    positive: int | None = None,
    n: int = 2000,
) -> np.ndarray:
    """Return resampled scores [n, models], each the mean over a model's seeds.

    A draw resamples the examples, which all models share, and the seeds of each model. The mean
    of S resampled seeds has (S - 1) / S of the right variance. So its deviation from the
    mean of all seeds is multiplied by sqrt(S / (S - 1)). With one seed only the examples vary.
    ``models`` hold the predicted classes [seeds, N]; ``metric`` is ``accuracy`` or ``f1``, which
    is that of class ``positive``.
    """
    size = len(labels)
    rng, draws = np.random.default_rng(seed), np.empty((n, len(models)))
    counts = [_counts(model, labels, positive) for model in models]
    for draw in draws:
        weights = np.bincount(rng.integers(size, size=size), minlength=size).astype(float)
        for column, model in enumerate(counts):
            scores, seeds = _scores(model, weights, metric), len(model)
            deviation = scores[rng.integers(seeds, size=seeds)].mean() - scores.mean()
            draw[column] = scores.mean() + np.sqrt(seeds / max(seeds - 1, 1)) * deviation
    return draws


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the two ends of the middle 95% of bootstrap draws [n]."""
    return tuple(np.percentile(draws, [2.5, 97.5]).tolist())


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Return the mean gap between confidence and accuracy over equal groups, in confidence's order."""
    sure = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    right = logits.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(sure, kind="stable"), bins)
    return float(np.mean([abs(sure[part].mean() - right[part].mean()) for part in parts]))


def margin(logits: np.ndarray) -> np.ndarray:
    """Return the largest logit minus the second largest [N]; logits [N, K]."""
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return first - second


def fallback(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the accuracies [N + 1]; entry k is that of the student with k answers of its teacher.

    The teacher answers the k examples on which the student's margin is smallest.
    """
    mine, others = (logits.argmax(axis=1) == labels for logits in (student, teacher))
    changes = (others.astype(int) - mine)[np.argsort(margin(student), kind="stable")]
    return (mine.sum() + np.append(0, np.cumsum(changes))) / len(labels)
