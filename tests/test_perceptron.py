"""The tagger for many sentences gives NLTK's tags, one by one."""

import random

import pytest
from nltk.tag.perceptron import PerceptronTagger

from distil import perceptron
from distil.perceptron import Perceptron

TAGS = {
    "the": "DT",
    "a": "DT",
    "film": "NN",
    "run": "VB",
    "runs": "VBZ",
    "well-made": "JJ",
    "2019": "CD",
    "7": "CD",
    "-": ":",
}


@pytest.fixture(scope="module")
def tagger():
    """NLTK's, trained on sentences in which a word's tag follows from the tag before it, too."""
    rng, words = random.Random(0), list(TAGS)
    text = [rng.choices(words, k=rng.randrange(1, 9)) for _ in range(300)]
    tagged = [[(word, TAGS[word] + "2" * (i % 2)) for i, word in enumerate(words)] for words in text]
    random.seed(0)
    tagger = PerceptronTagger(load=False)
    tagger.train(tagged, nr_iter=3)
    tagger.tagdict = {"the": "DT"}  # one word of a fixed tag, and the rest by their scores
    return tagger


def sentences(count):
    rng, words = random.Random(1), [*TAGS, "unseen", "1999", "x-ray", "Film", "é"]
    return [rng.choices(words, k=rng.randrange(12)) for _ in range(count)]


def test_tags_are_those_of_nltk(tagger):
    text = sentences(400)
    wanted = [[tag for _, tag in tagger.tag(words)] for words in text]
    assert Perceptron(tagger).tag(text) == wanted
    assert len({tag for tags in wanted for tag in tags}) > 4 and [] in wanted


def test_of_equal_scores_the_last_label_is_taken_as_there(tagger):
    tied = PerceptronTagger(load=False)
    tied.decode_json_params([{"bias": {"A": 1.0, "B": 1.0}}, {}, ["A", "B", "C"]])
    assert Perceptron(tied).tag([["x", "y"]]) == [[tag for _, tag in tied.tag(["x", "y"])]] == [["B", "B"]]


def test_what_stands_before_the_first_word_is_what_nltk_says():
    marks = ("i-1 tag -START-", "i-2 tag -START-", "i-1 word -START2-", "i+2 word -END-")
    for mark in marks:
        one = PerceptronTagger(load=False)
        one.decode_json_params([{"bias": {"B": 1.0}, mark: {"A": 2.0}}, {}, ["A", "B"]])
        wanted = [tag for _, tag in one.tag(["x", "y", "z"])]
        assert Perceptron(one).tag([["x", "y", "z"]]) == [wanted] and wanted.count("A") == 1, mark


def test_the_size_of_a_chunk_changes_nothing(tagger, monkeypatch):
    text = sentences(60)
    whole = Perceptron(tagger).tag(text)
    monkeypatch.setattr(perceptron, "CHUNK", 7)
    assert Perceptron(tagger).tag(text) == whole and Perceptron(tagger).tag([]) == []
