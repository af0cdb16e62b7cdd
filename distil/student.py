"""The student (paper section 3.1): a one-layer BiLSTM for one sentence or, siamese, for a pair."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

UNKNOWN_RANGE = 0.25  # Kim (2014): words without a vector are drawn from U(-0.25, 0.25)
FROZEN = {"random": [False], "static": [True], "tuned": [False], "multichannel": [True, False]}
CARD = "---\n{{ card_data }}\n---\nA student of BERT, to be read by `distil.load`.\n"
SHAPE = {Tensor: (lambda tensor: list(tensor.shape), torch.zeros)}  # config.json has no vectors


class BiLSTMStudent(nn.Module, PyTorchModelHubMixin, coders=SHAPE, model_card_template=CARD):
    """BiLSTM -> ReLU layer -> logits; a pair is compared as section 3.1 says (Mou et al. 2016).

    ``embeddings`` are word vectors [V, D]; row 0 is padding. ``hidden_size`` is per direction. One
    shared BiLSTM reads both sentences of a ``pair``. Channels are ``random`` (drawn, tuned),
    ``static`` (frozen), ``tuned``, or ``multichannel``: a frozen and a tuned copy side by side (Kim
    2014). Pooling is ``last`` (the paper's: the last state of each direction) or ``attention``.
    Dropout is on the ReLU layer.
    """

    def __init__(
        self,
        embeddings: Tensor,
        *,
        hidden_size: int,
        fc_size: int,
        num_labels: int,
        pair: bool,
        channels: str,
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        if channels not in FROZEN or pooling not in ("last", "attention"):
            raise ValueError(f"unknown channels {channels!r} or pooling {pooling!r}")
        self.pair = pair
        if channels == "random":
            embeddings = torch.empty_like(embeddings).uniform_(-UNKNOWN_RANGE, UNKNOWN_RANGE)
            embeddings[0] = 0
        # Sparse: a gradient has the rows of the batch, not of the vocabulary (LazyAdadelta).
        self.channels = nn.ModuleList(
            nn.Embedding.from_pretrained(embeddings.clone(), freeze=f, padding_idx=0, sparse=not f)
            for f in FROZEN[channels]
        )
        width = embeddings.shape[1] * len(self.channels)
        # Two one-way LSTMs: the backward one reads each sentence reversed within its own length,
        # so padding comes after the last word in both directions and is never read.
        self.forward_lstm = nn.LSTM(width, hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(width, hidden_size, batch_first=True)
        both = 2 * hidden_size
        self.attention = nn.Linear(both, 1, bias=False) if pooling == "attention" else None
        self.fc = nn.Linear(both * (4 if pair else 1), fc_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(fc_size, num_labels)

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        ids2: Tensor | None = None,
        lengths2: Tensor | None = None,
    ) -> Tensor:
        """Return logits [B, num_labels] of word ids [B, L] with lengths [B] of at least 1."""
        if self.pair != (ids2 is not None):
            raise ValueError(f"this student reads {1 + self.pair} sentence(s) per example")
        h = self.encode(ids, lengths)
        if ids2 is not None:
            h2 = self.encode(ids2, lengths2)
            h = torch.cat([h, h2, h * h2, (h - h2).abs()], dim=1)
        return self.output(self.dropout(torch.relu(self.fc(h))))

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return sentence features [B, 2 * hidden_size]."""
        vectors = torch.cat([channel(ids) for channel in self.channels], dim=2)
        positions = torch.arange(ids.shape[1], device=ids.device)
        reverse = (lengths[:, None] - 1 - positions).clamp(min=0)[:, :, None]
        ahead, _ = self.forward_lstm(vectors)
        back, _ = self.backward_lstm(vectors.gather(1, reverse.expand_as(vectors)))
        if self.attention is None:
            last = (lengths - 1)[:, None, None].expand(-1, 1, ahead.shape[2])
            return torch.cat([ahead.gather(1, last), back.gather(1, last)], dim=2).squeeze(1)
        states = torch.cat([ahead, back.gather(1, reverse.expand_as(back))], dim=2)
        scores = self.attention(states).squeeze(2)
        weights = scores.masked_fill(positions >= lengths[:, None], -torch.inf).softmax(dim=1)
        return (weights[:, :, None] * states).sum(dim=1)

    def num_parameters(self, embeddings: bool) -> int:
        """Count all parameters, frozen ones too; the paper's 0.96 M is without embeddings."""
        skipped = set() if embeddings else {id(p) for p in self.channels.parameters()}
        return sum(p.numel() for p in self.parameters() if id(p) not in skipped)


def save(folder: Path, student: BiLSTMStudent, words: Sequence[str], labels: Sequence[str]) -> None:
    """Write the files of ``distil.FILES``. Words are JSON, not lines, since a word may contain any character."""
    student.save_pretrained(folder)
    for name, values in (("vocabulary.json", words), ("labels.json", labels)):
        (folder / name).write_text(json.dumps(list(values)), encoding="utf-8")


def load(folder: Path) -> tuple[BiLSTMStudent, dict[str, int]]:
    """Return the student in ``folder``, in evaluation mode, and the id of each of its words."""
    with contextlib.redirect_stdout(None):  # the library prints that it loads a folder
        student = BiLSTMStudent.from_pretrained(folder, strict=True)
    words = json.loads((folder / "vocabulary.json").read_bytes())
    return student, {word: number for number, word in enumerate(words)}
