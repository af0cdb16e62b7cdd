"""Diagrams of teacher and student (paper section 3.1, figures 1 and 2), and of what the three rules do to a sentence."""

import itertools
import random
import re
from collections.abc import Mapping, Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from distil import augment
from distil.words import MASK

INK, FAINT, FROZEN, TUNED, LAYER = "0.15", "0.5", "0.85", "1.0", "0.93"
Point = tuple[float, float]


def _box(axes: Axes, at: Point, text: str, size: Point = (1.5, 0.55), shade: str = LAYER, ink: str = INK) -> None:
    """A rounded box around ``at``."""
    (x, y), (width, height) = at, size
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=shade, edgecolor=ink, linewidth=1))
    axes.text(x, y, text, ha="center", va="center", fontsize=9, color=ink)


def _arrow(axes: Axes, start: Point, end: Point, style: str = "-|>", ink: str = INK) -> None:
    arrow = {"arrowstyle": style, "color": ink, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=arrow)


def _blank(axes: Axes, title: str, width: float, height: float) -> None:
    axes.set(xlim=(-0.1, width), ylim=(-0.45, height), aspect="equal")
    axes.set_title(title, fontsize=11)
    axes.axis("off")


def _reader(axes: Axes, left: float, words: list[str], feature: str) -> Point:
    """Words, their two vectors and one BiLSTM; returns where its feature comes out at the top."""
    places = [left + 1.4 * i for i in range(len(words))]
    for x, word in zip(places, words, strict=True):
        axes.text(x, 0, word, ha="center", va="center", fontsize=10, style="italic", color=INK)
        _arrow(axes, (x, 0.2), (x, 0.42))
        _box(axes, (x, 0.77), "", (1.12, 0.66), "1.0")
        for shift, shade in ((-0.26, FROZEN), (0.26, TUNED)):
            _box(axes, (x + shift, 0.77), "", (0.46, 0.5), shade)
        for shift, y in ((-0.1, 1.8), (0.45, 2.7)):  # ahead, and above it back
            _arrow(axes, (x + shift, 1.11), (x + shift, y - 0.27))
            _box(axes, (x + shift, y), "LSTM", (0.75, 0.5))
    for before, after in itertools.pairwise(places):
        _arrow(axes, (before + 0.28, 1.8), (after - 0.48, 1.8))
        _arrow(axes, (after + 0.07, 2.7), (before + 0.83, 2.7))
    middle = (places[0] + places[-1]) / 2
    _box(axes, (middle, 3.75), feature, (1.9, 0.5))
    _arrow(axes, (places[-1] - 0.1, 2.06), (middle + 0.8, 3.48))
    _arrow(axes, (places[0] + 0.45, 2.96), (middle - 0.75, 3.48))
    return middle, 4.0


def _head(axes: Axes, x: float, y: float) -> None:
    _arrow(axes, (x, y), (x, y + 0.35))
    _box(axes, (x, y + 0.62), "ReLU layer", (1.9, 0.5))
    _arrow(axes, (x, y + 0.88), (x, y + 1.2))
    _box(axes, (x, y + 1.47), r"logits $z^{\mathrm{(S)}}$", (1.9, 0.5))


def student(pair: bool) -> Figure:
    """The BiLSTM: each word has a frozen (grey) and a tuned (white) vector; for pairs one BiLSTM reads both sentences."""
    figure, axes = plt.subplots(figsize=(9.5 if pair else 5, 4.6), layout="constrained")
    if not pair:
        x, y = _reader(axes, 0.6, ["a", "fine", "film"], "last states $[h_f; h_b]$")
        _head(axes, x, y)
        _blank(axes, "The student", 4.5, 5.9)
        return figure
    tops = [_reader(axes, 0.6, ["a", "dog", "runs"], "$h_1$"), _reader(axes, 6.0, ["it", "is", "awake"], "$h_2$")]
    middle = (tops[0][0] + tops[1][0]) / 2
    for x, y in tops:
        _arrow(axes, (x, y), (middle + (0.5 if x > middle else -0.5), 4.62))
    _box(axes, (middle, 4.9), r"$[h_1;\ h_2;\ h_1 \odot h_2;\ |h_1 - h_2|]$", (3.2, 0.55))
    _head(axes, middle, 5.18)
    axes.text(middle + 0.2, 2.25, "the same\nweights", ha="center", va="center", fontsize=9, color=INK)
    for side in (-1, 1):
        _arrow(axes, (middle + 0.2 + 0.5 * side, 2.25), (middle + 0.2 + 0.9 * side, 2.25))
    _blank(axes, "The student for pairs: one BiLSTM reads both", 9.9, 7.0)
    return figure


def teacher(pair: bool, pair_input: str = "joint") -> Figure:
    """BERT, its feature, one new layer and its logits; the softmax, drawn lighter, is there for fine-tuning only.

    A pair is one input with ``[SEP]`` between (``joint``), or two that the same BERT reads apart (``separate``).
    """
    first, second = ["[CLS]", "a", "fine", "film", "[SEP]"], ["it", "is", "fun", "[SEP]"]
    apart = pair and pair_input == "separate"
    inputs = [first, ["[CLS]", *second]] if apart else [first + second * pair]
    width = max(6.6, 0.95 * sum(map(len, inputs)) + 0.6 * apart)
    figure, axes = plt.subplots(figsize=(0.85 * width + 0.3, 5.2), layout="constrained")
    middle = width / 2 if apart else 1.35
    left = 0.0
    for number, words in enumerate(inputs):
        top = _bert(axes, left, words, "the same BERT" if number else "BERT, pretrained; all its weights are tuned")
        _arrow(axes, top, (middle + 1.3 * (number - 0.5) if apart else top[0], 2.08))
        left += 0.95 * len(words) + 0.6
    _top_of_teacher(axes, middle, ["feature $h_1$", "feature $h_2$"] if apart else ["feature $h$"])
    _blank(axes, "The teacher for pairs: one BERT reads both" if apart else "The teacher", width + 0.1, 5.4)
    return figure


def _bert(axes: Axes, left: float, words: list[str], label: str) -> Point:
    """An input and BERT above it; returns where its feature comes out: over ``[CLS]``."""
    for i, word in enumerate(words):
        x, style = left + 0.45 + 0.95 * i, "normal" if word[0] == "[" else "italic"
        axes.text(x, 0, word, ha="center", va="center", fontsize=10, style=style, color=INK)
        _arrow(axes, (x, 0.2), (x, 0.65))
    width = 0.95 * len(words) - 0.05
    _box(axes, (left + width / 2, 1.1), label, (width, 0.9))
    return left + 0.45, 1.55


def _top_of_teacher(axes: Axes, x: float, features: list[str]) -> None:
    """The features side by side, and above them the new layer, the logits and the softmax, each with what to know of it."""
    width = 2.6 / len(features)
    for place, feature in enumerate(features):
        _box(axes, (x - 1.3 + width * (place + 0.5), 2.35), feature, (width, 0.52))
    h = "h" if len(features) == 1 else r"[h_1;\ h_2]"
    axes.text(x + 1.5, 2.35, "BERT's output at [CLS]", va="center", fontsize=9, color=INK)
    boxes = [
        ("new layer $W$", "starts at random", INK),
        (rf"logits $z^{{\mathrm{{(B)}}}} = W {h}$", "what the student will learn", INK),
        (r"softmax $y^{\mathrm{(B)}}$", "for fine-tuning only", FAINT),
    ]
    for level, (label, note, ink) in enumerate(boxes):
        y = 3.2 + 0.85 * level
        _arrow(axes, (x, y - 0.59), (x, y - 0.26), ink=ink)
        _box(axes, (x, y), label, (2.6, 0.52), TUNED if ink == FAINT else LAYER, ink)
        axes.text(x + 1.5, y, note, va="center", fontsize=9, color=ink)


def sibling(
    tokens: Sequence[str],
    tags: Sequence[str],
    unigrams_by_tag: Mapping[str, Sequence[str]],
    *,
    seed: int,
    **rates: float,
) -> str:
    """One draw of ``augment`` as Markdown that shows what each rule did: masked, **replaced**, ~~dropped~~.

    The n-gram rule draws last, so the same seed without it gives the same words before the cut.
    """
    rates_whole = {**rates, "p_ng": 0.0}
    whole, kept = (
        augment.augment(tokens, tags, unigrams_by_tag, **some, rng=random.Random(seed)) for some in (rates_whole, rates)
    )
    start = next(i for i in range(len(whole)) if whole[i : i + len(kept)] == kept)
    shown = []
    for old, new in zip(tokens, whole, strict=True):
        word = f"`{MASK}`" if new == MASK else re.sub(r"([\\`*_~<>|#$\[\]])", r"\\\1", new)
        shown.append(word if new in (old, MASK) else f"**{word}**")
    end = start + len(kept)
    before, after = (f"~~{' '.join(words)}~~" if words else "" for words in (shown[:start], shown[end:]))
    return " ".join(filter(None, [before, *shown[start:end], after]))
