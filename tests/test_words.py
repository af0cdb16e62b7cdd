"""There is one tokenization; taggers give one tag per word."""

import io
import pickle

import pytest

from distil import config, packages, words
from distil.words import MASK, split_all, to_text, tokenize


def test_tokens_are_lower_case_treebank_words_and_the_teacher_reads_whole_verbs():
    wanted = ["the", '"', "film", '"', "is", "n't", "bad", ",", "it", "'s", "great", "!"]
    assert tokenize("The \"film\" isn't bad, it's GREAT!") == wanted and tokenize("") == []
    for text in ('a " quoted " film .', "it does n't end , but i 'd watch it ...", "so-so ; ok"):
        assert tokenize(text) == text.split() == split_all([text])[0]
    assert tokenize("a\tb\u00a0c\u2003d \u3000 e") == [*"abcde"]
    assert tokenize("I lost it. Can I get it back?")[2:5] == ["it", ".", "can"]
    found = tokenize("Mr. Smith, 2 p.m. Friday, the U.S. Army.")
    assert found[:2] == ["mr.", "smith"] and {"p.m.", "u.s."} <= set(found)
    assert tokenize("mr. deeds has been remade . again .").count(".") == 2  # SST-2 is cut already
    assert to_text(["do", "n't", MASK, "it", "'s"]) == "don't [MASK] it 's"
    assert to_text([MASK, "film"], mask_token="<mask>") == "<mask> film"


def test_a_tagger_gives_one_tag_per_word(monkeypatch):
    """The packaged tagger is NLTK's with the package's weights."""
    sentences = [["the", "film", "is", "n't", "bad", "zzz"], []]
    assert words.load_tagger("toy")(sentences) == [["DT", "NN", "VBZ", "RB", "JJ", "NN"], []]
    weights = {"bias": {"NN": 1.0}, "i suffix ing": {"VBG": 3.0}, "i-1 tag VBG": {"RB": 2.0}}
    model = pickle.dumps((weights, {"the": "DT"}, {"DT", "NN", "RB", "VBG"}), protocol=2)
    monkeypatch.setattr(packages, "open_member", lambda file, name: io.BytesIO(model))
    tags = words.load_tagger("packages")([["the", "running", "so"], ["so"]])
    assert tags == [["DT", "VBG", "RB"], ["NN"]]


def test_nltks_tagger_without_a_network_is_one_line_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(words.nltk, "download", lambda *_, **__: False)
    monkeypatch.setattr(words.nltk.data, "path", [str(tmp_path)])
    with pytest.raises(config.ConfigError, match=r"^cannot download .*tagger: packages'.*$"):
        words.load_tagger("nltk")
