"""The one word tokenization of teacher, augmenter and student, and the part-of-speech taggers.

Every sentence is cut into lower-case Treebank words (`do n't`), because GLUE's SST-2 comes that way and GloVe was counted that
way. The student reads the words; the teacher reads the same words joined by spaces, with `n't` put back to its verb.
"""

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from nltk.tag import DefaultTagger, UnigramTagger
from nltk.tag.perceptron import PerceptronTagger
from nltk.tokenize import NLTKWordTokenizer

from distil import packages, paths
from distil.perceptron import Perceptron

MASK = "[MASK]"  # what the masking rule writes: the teacher's mask token, the student's unknown word
Tagger = Callable[[Sequence[Sequence[str]]], list[list[str]]]  # words of many sentences -> their tags

_TREEBANK = NLTKWordTokenizer()
_QUOTES = {"``": '"', "''": '"'}


def tokenize(text: str) -> list[str]:
    """Lower-case words of a sentence: ``"I don't."`` -> ``["i", "do", "n't", "."]``."""
    return [_QUOTES.get(word, word) for word in _TREEBANK.tokenize(text.lower())]


def split_all(texts: Iterable[str]) -> list[list[str]]:
    """Words of prepared sentences; a word that occurs twice is one object, so that MNLI's twelve million words fit."""
    return [list(map(sys.intern, text.split())) for text in texts]


def to_text(words: Sequence[str], mask_token: str = MASK) -> str:
    """The words as the teacher reads them: joined by spaces, ``do n't`` as ``don't``, masks as its own mask token."""
    text = " ".join(mask_token if word == MASK else word for word in words)
    return text.replace(" n't", "n't")


class _SetOnlyUnpickler(pickle.Unpickler):
    """Reads the tagger's pickle, whose one global is ``set``, and refuses any other."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) in {("__builtin__", "set"), ("builtins", "set")}:
            return set
        raise pickle.UnpicklingError(f"refused: the pickle asks for {module}.{name}, and only 'set' is allowed")


def _perceptron_from_package() -> PerceptronTagger:
    """NLTK's own averaged perceptron tagger, with the weights of Honnibal's model that a package carries."""
    with packages.open_member(packages.TAGGER, "textblob_aptagger/trontagger-0.1.0.pickle") as stream:
        weights, tagdict, classes = _SetOnlyUnpickler(stream).load()
    tagger = PerceptronTagger(load=False)
    tagger.decode_json_params([weights, tagdict, sorted(classes)])
    return tagger


def tagger_file(name: str) -> Path:
    """The file that a loaded tagger's answers depend on, for records."""
    if name == "nltk":
        import nltk

        return (
            Path(nltk.data.find("taggers/averaged_perceptron_tagger_eng"))
            / "averaged_perceptron_tagger_eng.weights.json"
        )
    return paths.TOY / "tags.json" if name == "toy" else packages.fetch(packages.TAGGER)


def load_tagger(name: str) -> Tagger:
    """A function from the words of many sentences to their Penn Treebank tags, one a word.

    Args:
        name: ``toy`` (a small lexicon for the toy set), ``packages`` (NLTK's averaged perceptron tagger, weights from a
            package) or ``nltk`` (the same tagger, weights by ``nltk.download``).
    """
    if name == "toy":
        lexicon = json.loads(tagger_file("toy").read_text(encoding="utf-8"))
        tagger = UnigramTagger(model=lexicon, backoff=DefaultTagger("NN"))
        return lambda sentences: [[tag for _, tag in tagger.tag(list(words))] for words in sentences]
    if name == "packages":
        return Perceptron(_perceptron_from_package()).tag
    if name == "nltk":
        import nltk

        nltk.download("averaged_perceptron_tagger_eng", quiet=True)
        return Perceptron(PerceptronTagger()).tag
    raise ValueError(f"tagger must be 'toy', 'packages' or 'nltk', got {name!r}")


def cached_tags(sentences: Sequence[Sequence[str]], tagger: str, path: Path) -> list[list[str]]:
    """Tags of every sentence, kept in the Parquet file ``path`` for the next time; a damaged one, or of others, is made anew."""
    about = {"tagger": tagger_key(tagger), "sentences": _digest(sentences)}
    if (kept := _kept_tags(path, about)) is not None:
        return kept
    tagged = load_tagger(tagger)(sentences)
    table = pa.table({"tags": [" ".join(tags) for tags in tagged]})
    table = table.replace_schema_metadata(about | {"tags": _digest(tagged)})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")  # several processes may be at it
    pq.write_table(table, part)
    part.replace(path)
    return tagged


def _kept_tags(path: Path, about: dict[str, str]) -> list[list[str]] | None:
    """What ``path`` holds, if it is the tags that ``about`` asks for and no bit has changed."""
    try:
        table = pq.read_table(path)
        metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        tags = split_all(table.column("tags").to_pylist())
    except Exception:  # absent, or damaged, which Parquet's reader may say in any way
        return None
    return tags if metadata == about | {"tags": _digest(tags)} else None


def _digest(sentences: Iterable[Sequence[str]]) -> str:
    sha = hashlib.sha256()
    for words in sentences:
        sha.update(" ".join(words).encode() + b"\n")
    return sha.hexdigest()


def tagger_key(tagger: str) -> str:
    """A tagger's name and the sha256 of its file."""
    load_tagger(tagger)  # fetched or unpacked, if it was not yet
    return f"{tagger} {packages.sha256(tagger_file(tagger))}"
