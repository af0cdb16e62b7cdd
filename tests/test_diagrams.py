"""The diagrams draw, and a sibling's marks say what ``augment`` did with the same seed."""

import random
import re

import pytest
from matplotlib import pyplot as plt

from distil import diagrams
from distil.augment import augment
from distil.words import MASK

TOKENS, TAGS = ["the", "film", "is", "*", "good"], ["DT", "NN", "VBZ", "SYM", "JJ"]
BY_TAG = {"DT": ["a"], "NN": ["dog"], "VBZ": ["was"], "SYM": ["$"], "JJ": ["bad"]}
RATES = {"p_mask": 0.3, "p_pos": 0.3, "p_ng": 0.5}


@pytest.mark.parametrize("seed", range(30))
def test_the_marks_of_a_sibling_are_what_was_done(seed):
    text = diagrams.sibling(TOKENS, TAGS, BY_TAG, **RATES, seed=seed)
    shown = text.replace("~~", "").split(" ")
    kept = re.sub(r"~~.*?~~", "", text).split()
    plain = [re.sub(r"^\*\*|(?<!\\)\*\*$|`", "", word).replace("\\", "") for word in kept]
    assert plain == augment(TOKENS, TAGS, BY_TAG, **RATES, rng=random.Random(seed))
    assert len(shown) == len(TOKENS)
    for word, token, tag in zip(shown, TOKENS, TAGS, strict=True):
        expected = {f"`{MASK}`", token.replace("*", "\\*"), "**" + BY_TAG[tag][0].replace("$", "\\$") + "**"}
        assert word in expected


@pytest.mark.parametrize("pair", [False, True])
def test_the_diagrams_draw(pair):
    for draw in (diagrams.student, diagrams.teacher):
        figure = draw(pair)
        figure.canvas.draw()
        texts = {text.get_text() for text in figure.axes[0].texts}
        assert any("logits" in text for text in texts) and ("it" in texts) == pair
        plt.close(figure)


@pytest.mark.parametrize(("pair_input", "features"), [("joint", 1), ("separate", 2)])
def test_the_teachers_logits_come_before_the_softmax(pair_input, features):
    figure = diagrams.teacher(True, pair_input)
    heights = {}
    for text in figure.axes[0].texts:
        heights.setdefault(text.get_text().partition(" $")[0], []).append(text.get_position()[1])
    levels = [heights[name][0] for name in ("[CLS]", "feature", "new layer", "logits", "softmax")]
    assert levels == sorted(set(levels))
    assert len(heights["[CLS]"]) == len(heights["feature"]) == features and ("the same BERT" in heights) == (
        features == 2
    )
    plt.close(figure)
