"""The student (paper section 3.1): a one-layer BiLSTM, for one sentence or, siamese, for two."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import FloatTensor, LongTensor, Tensor, nn

from distil import sealed
from distil.config import CHANNELS, POOLINGS

UNKNOWN_RANGE = 0.25  # Kim (2014): words without a vector are drawn from U(-0.25, 0.25)


class BiLSTMStudent(nn.Module):
    """BiLSTM -> ReLU layer -> logits; for pairs the features are [h1; h2; h1 * h2; |h1 - h2|] (Mou et al. 2016).

    Args:
        embeddings: word vectors [V, D]; row 0 is padding.
        hidden_size: units a direction (paper: 150 or 300); ``fc_size``: units of the ReLU layer (200 or 400).
        num_labels: classes; ``pair``: whether an example is two sentences, read by one shared BiLSTM.
        channels: ``random`` (own vectors drawn, tuned), ``static`` (given, frozen), ``tuned`` (given, tuned) or
            ``multichannel`` (one frozen and one tuned copy side by side; Kim 2014).
        pooling: ``last`` (last forward and last backward state, the paper's) or ``attention`` (weighted mean of all states).
        dropout: on the output of the ReLU layer.
    """

    def __init__(
        self,
        embeddings: FloatTensor,
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
        if channels not in CHANNELS or pooling not in POOLINGS:
            raise ValueError(
                f"channels must be one of {CHANNELS} and pooling one of {POOLINGS}, got {channels!r} and {pooling!r}"
            )
        self.pair = pair
        self.settings = {
            "hidden_size": hidden_size,
            "fc_size": fc_size,
            "num_labels": num_labels,
            "pair": pair,
            "channels": channels,
            "pooling": pooling,
            "dropout": dropout,
        }
        self.channels = nn.ModuleList(_channels(embeddings, channels))
        width = embeddings.shape[1] * len(self.channels)
        # Two one-way LSTMs: the backward one reads each sentence reversed within its own length, so padding always comes
        # after the last word in both directions and can never be read.
        self.forward_lstm = nn.LSTM(width, hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(width, hidden_size, batch_first=True)
        self.attention = nn.Linear(2 * hidden_size, 1, bias=False) if pooling == "attention" else None
        self.fc = nn.Linear(2 * hidden_size * (4 if pair else 1), fc_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(fc_size, num_labels)

    def forward(
        self, ids: LongTensor, lengths: LongTensor, ids2: LongTensor | None = None, lengths2: LongTensor | None = None
    ) -> Tensor:
        """Logits [B, num_labels] of word ids [B, L] with lengths [B] of at least 1, and of a second sentence for pairs.

        Raises:
            ValueError: a pair model got one sentence, or the other way round.
        """
        if self.pair != (ids2 is not None):
            raise ValueError(f"this student reads {'two sentences' if self.pair else 'one sentence'} an example")
        features = self.encode(ids, lengths)
        if ids2 is not None:
            second = self.encode(ids2, lengths2)
            features = torch.cat([features, second, features * second, (features - second).abs()], dim=1)
        return self.output(self.dropout(torch.relu(self.fc(features))))

    def encode(self, ids: LongTensor, lengths: LongTensor) -> Tensor:
        """Sentence features [B, 2 * hidden_size]."""
        vectors = torch.cat([channel(ids) for channel in self.channels], dim=2)
        positions = torch.arange(ids.shape[1], device=ids.device)
        reverse = (lengths[:, None] - 1 - positions).clamp(min=0)[:, :, None]
        ahead, _ = self.forward_lstm(vectors)
        back, _ = self.backward_lstm(vectors.gather(1, reverse.expand_as(vectors)))
        if self.attention is None:
            last = (lengths - 1)[:, None, None].expand(-1, 1, ahead.shape[2])
            return torch.cat([ahead.gather(1, last), back.gather(1, last)], dim=2).squeeze(1)
        states = torch.cat([ahead, back.gather(1, reverse.expand_as(back))], dim=2)
        return (self.attention_weights(states, lengths)[:, :, None] * states).sum(dim=1)

    def attention_weights(self, states: Tensor, lengths: LongTensor) -> Tensor:
        """Weights [B, L] over states [B, L, 2 * hidden_size]: they sum to 1 and are 0 on padding."""
        padding = torch.arange(states.shape[1], device=states.device) >= lengths[:, None]
        return self.attention(states).squeeze(2).masked_fill(padding, -torch.inf).softmax(dim=1)

    def num_parameters(self, embeddings: bool) -> int:
        """Number of parameters, the frozen ones too, with or without the embeddings (the paper's 0.96 M is without)."""
        skipped = set() if embeddings else {id(p) for p in self.channels.parameters()}
        return sum(p.numel() for p in self.parameters() if id(p) not in skipped)


def save(folder: Path, student: BiLSTMStudent, words: Sequence[str]) -> None:
    """Write ``model.safetensors``, ``vocabulary.txt`` and ``config.json``: all that ``load`` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in student.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "vocabulary.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(student.settings, indent=1), encoding="utf-8")
    sealed.seal(folder, ("model.safetensors", "vocabulary.txt", "config.json"))


def load(folder: Path) -> tuple[BiLSTMStudent, list[str]]:
    """The student in ``folder``, in evaluation mode, and its words in id order.

    Raises:
        SealError: a file is missing or damaged.
    """
    sealed.check(folder, "Delete the record of this student and run again, or fetch the folder anew")
    weights = load_file(folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    student = BiLSTMStudent(torch.zeros(weights["channels.0.weight"].shape), **settings)
    student.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return student.eval(), (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")


def _channels(embeddings: FloatTensor, channels: str) -> list[nn.Embedding]:
    def channel(vectors: Tensor, frozen: bool) -> nn.Embedding:
        # Sparse: the gradient has the rows of the batch, not of the vocabulary (LazyAdadelta).
        return nn.Embedding.from_pretrained(vectors.clone(), freeze=frozen, padding_idx=0, sparse=not frozen)

    if channels == "random":
        drawn = torch.empty_like(embeddings).uniform_(-UNKNOWN_RANGE, UNKNOWN_RANGE)
        drawn[0] = 0
        return [channel(drawn, frozen=False)]
    frozen = {"static": [True], "tuned": [False], "multichannel": [True, False]}[channels]
    return [channel(embeddings, frozen=one) for one in frozen]
