"""Distilling task-specific knowledge from BERT into a BiLSTM (Tang et al. 2019).

``distil.load(folder)`` returns a student that answers texts. A released one needs this file, numpy
and ONNX Runtime alone. With PyTorch instead, it needs ``distil.student`` too.
"""

import json
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

__version__ = "0.2.0"
TORCH, ONNX = "model.safetensors", "student.onnx"
FILES = (TORCH, "config.json", "vocabulary.json", "labels.json")  # of a saved student
UNKNOWN = 1  # the word id of every word that is not in the vocabulary; 0 is padding
BATCH = 64  # texts of similar length


class Classifier:
    """A trained student that answers a text or a list of texts; a pair is a tuple of two.

    ``labels`` are in the order of ``predict_proba``'s columns.
    """

    def __init__(self, folder: Path, weights: str) -> None:
        try:
            settings, words, self.labels = (_read(folder / name) for name in FILES[1:])
            sizes = settings["embeddings"][0], settings["num_labels"]
            if (len(words), len(self.labels)) != sizes:
                raise ValueError("config.json names another number of words or labels")
            self._words = _tokenizer(folder / "tokenizer.json")
            self._logits = _torch(folder) if weights == TORCH else _onnx(folder / weights)
        except Exception as error:  # a damaged file fails in many ways
            what = f"cannot load a student from {weights}, {', '.join(FILES[1:])} in {folder}"
            raise ValueError(f"{what}: {' '.join(str(error).split()):.200}") from error
        self.pair, self._ids = settings["pair"], {word: number for number, word in enumerate(words)}

    def __call__(self, texts: Any = None) -> list[dict[str, Any]]:
        """Return each text's likeliest label and its probability: ``[{"label", "score"}]``."""
        rows = self.predict_proba(texts).tolist()
        return [{"label": self.labels[row.index(max(row))], "score": max(row)} for row in rows]

    def predict_proba(self, texts: Any = None) -> np.ndarray:
        """Return the probability of every label [N, labels]; N is 1 for one text."""
        many = texts if isinstance(texts, list) and texts else [texts]
        rows = [self._encode(text) for text in many]
        order = np.argsort([max(map(len, row)) for row in rows], kind="stable")
        answer = np.empty((len(rows), len(self.labels)), np.float32)
        for start in range(0, len(rows), BATCH):
            batch = order[start : start + BATCH]
            columns = zip(*(rows[i] for i in batch), strict=True)
            logits = self._logits([array for column in columns for array in _padded(column)])
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            answer[batch] = powers / powers.sum(axis=1, keepdims=True)
        return answer

    def _encode(self, text: Any) -> list[list[int]]:
        """Return the word ids of one text or two; an empty text is one unknown word."""
        parts = text if isinstance(text, tuple) else (text,)
        if len(parts) != 1 + self.pair or not all(isinstance(part, str) for part in parts):
            wanted = f"{'a tuple of two strings' if self.pair else 'a string'}, or a list of them"
            raise ValueError(f"wanted {wanted}, got {' '.join(repr(text).split()):.80}")
        words = (self._words(part) or [None] for part in parts)
        return [[self._ids.get(word, UNKNOWN) for word in sentence] for sentence in words]


def load(name: str | Path, weights: str | None = None) -> Classifier:
    """Return the student in a folder, or on the hub: ``user/name@commit``.

    ``weights`` is one of its files: by default ``student.onnx``, or ``model.safetensors`` where that
    file or ONNX Runtime is missing. Raises ValueError for what is not a student.
    """
    folder = Path(str(name)).expanduser()
    if not folder.is_dir():
        wanted = f"wanted a folder, or 'user/name@commit' of the hub, got {str(name)!r:.99}"
        repository, at, commit = str(name).partition("@")
        if not at:
            raise ValueError(f"{wanted}; no such folder is here")
        try:
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(repository, revision=commit))
        except (ImportError, OSError, ValueError) as error:
            raise ValueError(f"{wanted}: {' '.join(str(error).split()):.200}") from error
    onnx = (folder / ONNX).is_file() and (find_spec("onnxruntime") or not find_spec("torch"))
    return Classifier(folder, weights or (ONNX if onnx else TORCH))


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _tokenizer(path: Path) -> Callable[[str], list[str]]:
    """Return a function from a text to its words. A release has the rules in a file of its own."""
    if not path.is_file():
        from distil.batching import MAX_WORDS
        from distil.words import tokenize

        return lambda text: tokenize(text)[:MAX_WORDS]
    settings = _read(path)

    def words(text: str) -> list[str]:
        for pattern, new in settings["rules"]:  # without a replacement, the match is lower-cased
            text = re.sub(pattern, new or (lambda match: match[0].lower()), text)
        return text.split()[: settings["max_words"]]

    return words


def _padded(sentences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return word ids [B, L], padded with 0, and lengths [B]."""
    lengths = np.array([len(ids) for ids in sentences], np.int64)
    padded = np.zeros((len(sentences), lengths.max()), np.int64)
    for row, ids in zip(padded, sentences, strict=True):
        row[: len(ids)] = ids
    return padded, lengths


def _onnx(path: Path, options: Any = None) -> Callable[[list[np.ndarray]], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def _torch(folder: Path) -> Callable[[list[np.ndarray]], np.ndarray]:
    import torch

    from distil import student

    net = torch.inference_mode()(student.load(folder)[0].forward)
    return lambda arrays: net(*map(torch.from_numpy, arrays)).numpy()
