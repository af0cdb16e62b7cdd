"""ELMo in its original shape (Peters et al. 2018) with random weights, to be timed for Table 2.

Its speed does not depend on its weights. It has 93,600,864 parameters.
"""

import torch
from torch import Tensor, nn

CHARACTERS, CHARACTERS_PER_WORD = 262, 50
FILTERS = {1: 32, 2: 32, 3: 64, 4: 128, 5: 256, 6: 512, 7: 1024}  # width in characters: number
CHANNELS = sum(FILTERS.values())
CHARACTER_DIM, WIDTH, CELLS, LAYERS = 16, 512, 4096, 2
WORDS = 4096  # that the convolutions read at once: each takes 0.2 MB, and a batch has 20,000


class Elmo(nn.Module):
    """Characters -> convolutions -> two highway layers -> two layers of LSTMs per direction."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, CHARACTER_DIM)
        convolutions = [nn.Conv1d(CHARACTER_DIM, n, width) for width, n in FILTERS.items()]
        self.convolutions = nn.ModuleList(convolutions)
        self.highways = nn.ModuleList(nn.Linear(CHANNELS, 2 * CHANNELS) for _ in range(2))
        self.projection = nn.Linear(CHANNELS, WIDTH)
        self.ahead = nn.ModuleList(_lstm() for _ in range(LAYERS))
        self.back = nn.ModuleList(_lstm() for _ in range(LAYERS))

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean of the three layers [B, L, 1024] for characters [B, L, 50]."""
        words = self.words(characters)
        positions = torch.arange(words.shape[1], device=words.device)
        reverse = (lengths[:, None] - 1 - positions).clamp(min=0)[:, :, None].expand_as(words)
        layers = [torch.cat([words, words], dim=2)]
        ahead, back = words, words.gather(1, reverse)
        for number, lstms in enumerate(zip(self.ahead, self.back, strict=True)):
            new_ahead, new_back = lstms[0](ahead)[0], lstms[1](back)[0]
            # A residual connection leads from the first layer to the second.
            ahead, back = (new_ahead + ahead, new_back + back) if number else (new_ahead, new_back)
            layers.append(torch.cat([ahead, back.gather(1, reverse)], dim=2))
        return torch.stack(layers).mean(dim=0)

    def words(self, characters: Tensor) -> Tensor:
        """Return word vectors without context [B, L, 512] for characters [B, L, 50]."""
        features = torch.cat([self._of(part) for part in characters.flatten(0, 1).split(WORDS)])
        for highway in self.highways:
            carried, gate = highway(features).chunk(2, dim=1)
            gate = gate.sigmoid()
            features = gate * features + (1 - gate) * torch.relu(carried)
        return self.projection(features).view(*characters.shape[:2], WIDTH)

    def _of(self, characters: Tensor) -> Tensor:
        spelled = self.characters(characters).transpose(1, 2)
        found = [convolution(spelled).amax(dim=2) for convolution in self.convolutions]
        return torch.cat(found, dim=1).relu()


def _lstm() -> nn.LSTM:
    """Return an LSTM with one bias per gate: PyTorch's second one becomes a constant zero."""
    lstm = nn.LSTM(WIDTH, CELLS, batch_first=True, proj_size=WIDTH)
    del lstm.bias_hh_l0
    lstm.register_buffer("bias_hh_l0", torch.zeros_like(lstm.bias_ih_l0), persistent=False)
    lstm._flat_weights = [getattr(lstm, name) for name in lstm._flat_weights_names]
    return lstm


def flops_per_word() -> float:
    """Return the operations for one word: two for each weight of a matrix, at each of its uses."""
    places = {width: CHARACTERS_PER_WORD - width + 1 for width in FILTERS}
    convolutions = sum(width * FILTERS[width] * places[width] for width in FILTERS) * CHARACTER_DIM
    dense = 2 * CHANNELS * 2 * CHANNELS + CHANNELS * WIDTH
    recurrent = 2 * LAYERS * (2 * WIDTH * 4 * CELLS + CELLS * WIDTH)
    return 2.0 * (convolutions + dense + recurrent)
