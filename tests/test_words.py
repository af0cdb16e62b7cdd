"""The one tokenization, and the taggers; the pickle reader is attacked."""

import io
import os
import pickle

import pytest

from distil import words
from distil.words import MASK, to_text, tokenize


def test_tokens_are_lower_case_treebank_words():
    assert tokenize('The "film" isn\'t bad, it\'s GREAT!') == [
        "the", '"', "film", '"', "is", "n't", "bad", ",", "it", "'s", "great", "!",
    ]  # fmt: skip
    assert tokenize("") == []


def test_tokenizing_its_own_output_changes_nothing():
    for text in ('a " quoted " film .', "it does n't end , but i 'd watch it ...", "an 80-minute film ; so-so"):
        assert tokenize(text) == text.split()


def test_no_word_holds_white_space():
    assert all(not any(c.isspace() for c in word) for word in tokenize("a\tb\u00a0c\u2003d \u3000 e"))


def test_the_teacher_reads_verbs_whole_and_its_own_mask():
    assert to_text(["do", "n't", MASK, "it", "'s"]) == "don't [MASK] it 's"
    assert to_text([MASK, "film"], mask_token="<mask>") == "<mask> film"


def test_the_toy_tagger_gives_one_tag_a_word():
    tag = words.load_tagger("toy")
    assert tag([["the", "film", "is", "n't", "bad", "zzz"], []]) == [["DT", "NN", "VBZ", "RB", "JJ", "NN"], []]


def test_unknown_tagger_is_an_error():
    with pytest.raises(ValueError, match="tagger must be"):
        words.load_tagger("best")


class Attack:
    def __reduce__(self):
        return os.system, ("echo attacked",)


@pytest.mark.parametrize("payload", [Attack(), {"weights": os.path.join}])
def test_the_pickle_reader_refuses_everything_but_set(payload):
    with pytest.raises(pickle.UnpicklingError, match="only 'set' is allowed"):
        words._SetOnlyUnpickler(io.BytesIO(pickle.dumps(payload))).load()
    assert words._SetOnlyUnpickler(io.BytesIO(pickle.dumps(({"a": 1.0}, {"b"})))).load() == ({"a": 1.0}, {"b"})


def test_tags_are_kept(tmp_path, monkeypatch):
    sentences = [["a", "good", "film"][: i % 4] for i in range(50)]
    one = words.load_tagger("toy")(sentences)
    path = tmp_path / "tags.parquet"
    assert words.cached_tags(sentences, "toy", path) == one
    with monkeypatch.context() as patch:
        patch.setattr(words, "load_tagger", lambda name: None)  # called for the key; what it returns must not be
        assert words.cached_tags(sentences, "toy", path) == one
    assert words.cached_tags(sentences[:3], "toy", path) == one[:3]
