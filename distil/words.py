"""Cuts sentences into words, in the one way that all parts of the project share, and tags them.

Words are lower-case Treebank words (`do n't`), because GLUE's SST-2 is cut like this and GloVe was
counted like this. The student reads the words. The teacher reads them as text, with ``n't`` joined to its verb.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence

import nltk
from nltk.tag import DefaultTagger, UnigramTagger
from nltk.tag.api import TaggerI
from nltk.tag.perceptron import PerceptronTagger
from nltk.tokenize import NLTKWordTokenizer

from distil import config, packages

MASK = "[MASK]"  # the masking rule writes it: the teacher's mask token, the student's unknown word
Tagger = Callable[[Sequence[Sequence[str]]], list[list[str]]]  # words of sentences -> their tags

_TREEBANK = NLTKWordTokenizer()
_QUOTES = {"``": '"', "''": '"'}
# The Treebank rules cut off only the last full stop of a text. This finds those of sentences inside it.
_INNER_STOP = re.compile(
    r"(?<![\w.])(?!(?i:mr|mrs|ms|dr|prof|st|jr|sr|vs|no|rs|inc)\.)([\w'-]{2,})\.(?=\s+[\"'(]?[A-Z])"
)


def tokenize(text: str) -> list[str]:
    """Return the lower-case words of a text: ``"I don't."`` -> ``["i", "do", "n't", "."]``."""
    text = _INNER_STOP.sub(r"\1 .", text).lower()
    return [_QUOTES.get(word, word) for word in _TREEBANK.tokenize(text)]


def split_all(texts: Iterable[str]) -> list[list[str]]:
    """Return the words of prepared sentences; equal words are one object, so that MNLI fits."""
    return [list(map(sys.intern, text.split())) for text in texts]


def to_text(words: Sequence[str], mask_token: str = MASK) -> str:
    """Return the words as the teacher reads them: ``don't`` for ``do n't``, its own mask token."""
    text = " ".join(mask_token if word == MASK else word for word in words)
    return text.replace(" n't", "n't")


def load_tagger(name: str) -> Tagger:
    """Return a function from the words of many sentences to one Penn Treebank tag per word.

    ``toy`` is a lexicon of the toy set's words. ``packages`` and ``nltk`` are NLTK's averaged
    perceptron tagger, with weights from a package or from NLTK's own download.
    """
    if name == "toy":
        lexicon = json.loads((config.TOY / "tags.json").read_text(encoding="utf-8"))
        tagger: TaggerI = UnigramTagger(model=lexicon, backoff=DefaultTagger("NN"))
    elif name == "nltk":
        nltk.download("averaged_perceptron_tagger_eng", quiet=True)
        try:
            tagger = PerceptronTagger()
        except LookupError:  # its message has 23 lines
            raise config.ConfigError(
                "cannot download the weights of 'tagger: nltk'; set 'tagger: packages', which has the "
                "same weights, or NLTK_DATA to their folder"
            ) from None
    else:
        member = "textblob_aptagger/trontagger-0.1.0.pickle"
        with packages.open_member(packages.TAGGER, member) as file:
            weights, tagdict, classes = packages.InertUnpickler(file).load()
        tagger = PerceptronTagger(load=False)
        tagger.decode_json_params([weights, tagdict, sorted(classes.given[0])])  # it was a set
    return lambda sentences: [[tag for _, tag in tagger.tag(words)] for words in sentences]
