"""Files of word2vec vectors: its own binary format; gensim's, a pickle of words beside a .npy of vectors, here or on the hub.

The paper's vectors were trained on Google News (section 4.2): 3 million words and phrases, 300 wide, 3.6 GB. A source is
therefore read as rows, a word and a function that makes its vector: a vector that nobody asks for is never decoded.

Google News keeps its case, and the text had lost the most frequent words (a, and, of, to) and most punctuation, and wrote each
digit of a number above 9 as ``#``. Our lower-case words of these kinds, names among them, get no vector there: they are drawn
from the random range, as unknown words are.
"""

import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

BLOCK = 1 << 20  # bytes of a .bin file read at a time
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
Row = tuple[str, Callable[[], np.ndarray]]  # a word, and what makes its vector, float32 [D]


class EmbeddingError(ValueError):
    """Word vectors cannot be read; the message says what was wanted."""


def matrix_rows(words: Sequence[str], vectors: np.ndarray, source: object) -> Iterator[Row]:
    """Rows of a matrix [N, D], most often one that is mapped from a file, and its N words.

    Raises:
        EmbeddingError: there are more words than vectors, or fewer.
    """
    if len(words) != len(vectors):
        raise EmbeddingError(
            f"{source}: {len(words)} words and {len(vectors)} vectors; are both files of the same release, and whole?"
        )
    return ((word, partial(_row, vectors, number)) for number, word in enumerate(words))


def _row(vectors: np.ndarray, number: int) -> np.ndarray:
    return np.array(vectors[number], dtype=np.float32)  # a copy: the only moment a mapped file is read


# --- word2vec's own format --------------------------------------------------------------------------------------------


def binary_rows(path: Path) -> Iterator[Row]:
    """Rows of a .bin file: 'count width', then for each word its UTF-8 bytes, a space, and ``width`` float32.

    Raises:
        EmbeddingError: no such first line, or the file ends early.
    """
    with path.open("rb") as stream:
        count, width = _binary_header(stream, path)
        data, start = b"", 0
        for number in range(count):
            while not (space := data.find(b" ", start) + 1) or len(data) < space + 4 * width:
                if not (block := stream.read(BLOCK)):
                    raise EmbeddingError(f"{path}: the file ends early; of {count} words it has {number}")
                data, start = data[start:] + block, 0
            word = data[start : space - 1].lstrip(b"\n")  # some writers end a vector with a line feed
            yield word.decode("utf-8", errors="replace"), partial(_floats, data, space, width)
            start = space + 4 * width


def _binary_header(stream: BinaryIO, path: Path) -> tuple[int, int]:
    line = stream.readline(100)  # bounded: a file of another format may have no line feed at all
    if not re.fullmatch(rb"\d+ +[1-9]\d*\s*\n", line):
        raise EmbeddingError(f"{path}: a word2vec .bin file begins with the line 'count width', this one with {line!r}")
    count, width = line.split()
    return int(count), int(width)


def _floats(data: bytes, offset: int, width: int) -> np.ndarray:
    # A copy, since a view would keep the whole block in memory.
    return np.frombuffer(data, "<f4", width, offset).astype(np.float32)


# --- a .npy and the file of its words ---------------------------------------------------------------------------------


def npy_rows(path: Path) -> Iterator[Row]:
    """Rows of ``x.npy``; its words lie beside it.

    They are gensim's pickle for a ``<saved>.vectors.npy`` of gensim (the file ``<saved>``), or else ``x.txt``, one word a line.

    Raises:
        EmbeddingError: no file of words, a malformed file, or another number of words than of vectors.
    """
    saved, text = _beside(path)
    if found := words_beside(path):
        words = _gensim_words(saved) if found == [saved] else _listed_words(text)
        return matrix_rows(words, _mapped(path), path)
    beside = f"{text}, one word a line" if saved == path else f"{saved} (gensim's file) or {text}, one word a line"
    raise EmbeddingError(f"{path}: the words of these vectors are missing; put beside it {beside}")


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name.removesuffix(".vectors.npy")), path.with_suffix(".txt")


def words_beside(path: Path) -> list[Path]:
    """The file with the words of ``x.npy``, in a list that is empty if there is none."""
    saved, text = _beside(path)
    return [file for file in (saved, text) if file != path and file.is_file()][:1]


def _mapped(path: Path) -> np.ndarray:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise EmbeddingError(f"{path}: not a whole .npy file of numbers: {error}") from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        what = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else "an archive of arrays"
        raise EmbeddingError(f"{path}: wanted a matrix of floats [words, width], got {what}")
    return vectors


def _listed_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise EmbeddingError(f"{path}: not UTF-8 ({error.reason}); it lists the words, one a line") from None


class _Saved:
    """Stands for gensim's object: a bag of its attributes."""


class _Nothing:
    """Stands for what the pickle makes and we do not need: takes any arguments and any state, and keeps neither."""

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


_STAND_INS = {
    ("gensim.models.keyedvectors", "KeyedVectors"): _Saved,
    ("gensim.models.keyedvectors", "Word2VecKeyedVectors"): _Saved,  # its name before gensim 4
    ("gensim.models.keyedvectors", "Vocab"): _Nothing,  # a word's count before gensim 4
    ("numpy", "ndarray"): _Nothing,
    ("numpy", "dtype"): _Nothing,
    # Arrays inside are counts of words. Numpy's own functions, which trust what they are given, are not called for them.
    ("numpy.core.multiarray", "_reconstruct"): _Nothing,
    ("numpy.core.multiarray", "scalar"): _Nothing,
    ("numpy._core.multiarray", "_reconstruct"): _Nothing,  # the same two since numpy 2
    ("numpy._core.multiarray", "scalar"): _Nothing,
}


class _GensimUnpickler(pickle.Unpickler):
    """Reads gensim's pickle without gensim, and runs no code for it: a global is one of two empty classes, or refused."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"refused: the pickle asks for {module}.{name}, which word vectors do not need"
            )
        return _STAND_INS[module, name]


def _gensim_words(path: Path) -> list[str]:
    """Words of a saved ``KeyedVectors`` in the order of its vectors, by frequency; they are kept apart from the vectors."""
    try:
        with path.open("rb") as stream:
            saved = _GensimUnpickler(stream).load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise EmbeddingError(f"{path}: cannot be read as gensim's KeyedVectors: {error}") from error
    attributes = vars(saved) if isinstance(saved, _Saved) else {}
    words = attributes.get("index_to_key", attributes.get("index2word"))  # the second before gensim 4
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise EmbeddingError(f"{path}: wanted gensim's KeyedVectors with a list of words in 'index_to_key', found none")
    return words


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub_rows(source: str) -> Iterator[Row]:
    """Rows of gensim's two files in a repository of the hub, ``someone/<saved>@commit``; ``<saved>.model`` is their name.

    ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` say where from, as for every model of the hub.

    Raises:
        EmbeddingError: the files cannot be had, are malformed, or disagree.
    """
    from huggingface_hub import hf_hub_download

    repository, _, commit = source.partition("@")
    saved = f"{repository.partition('/')[2]}.model"
    try:
        words, vectors = (
            Path(hf_hub_download(repository, name, revision=commit)) for name in (saved, f"{saved}.vectors.npy")
        )
    except Exception as error:  # every way a download can fail has the same remedies
        raise EmbeddingError(
            f"cannot fetch {saved} and {saved}.vectors.npy of {source}. Check the network (HF_ENDPOINT for a mirror, HF_HOME "
            "for a folder with the hub's cache), or fetch GoogleNews-vectors-negative300.bin on another machine, unpack it, "
            f"and put its path in student.yaml's 'vectors'. The hub's client says: {error}"
        ) from error
    return matrix_rows(_gensim_words(words), _mapped(vectors), source)
