"""ELMo of the original shape (Peters et al. 2018), with random weights: what Table 2 times beside BERT and the student.

Its speed does not depend on its weights. It has one bias vector a gate and 93,600,864 parameters.
"""

import torch
from torch import LongTensor, Tensor, nn

CHARACTERS, CHARACTERS_A_WORD = 262, 50
FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))  # width in characters, number
CHARACTER_DIM, WIDTH, CELLS, LAYERS = 16, 512, 4096, 2


class Elmo(nn.Module):
    """Characters -> convolutions -> two highway layers -> two layers of forward and backward LSTMs with a projection."""

    def __init__(self) -> None:
        super().__init__()
        channels = sum(number for _, number in FILTERS)
        self.characters = nn.Embedding(CHARACTERS, CHARACTER_DIM)
        self.convolutions = nn.ModuleList(nn.Conv1d(CHARACTER_DIM, number, width) for width, number in FILTERS)
        self.highways = nn.ModuleList(nn.Linear(channels, 2 * channels) for _ in range(2))
        self.projection = nn.Linear(channels, WIDTH)
        self.ahead = nn.ModuleList(
            _one_bias(nn.LSTM(WIDTH, CELLS, batch_first=True, proj_size=WIDTH)) for _ in range(LAYERS)
        )
        self.back = nn.ModuleList(
            _one_bias(nn.LSTM(WIDTH, CELLS, batch_first=True, proj_size=WIDTH)) for _ in range(LAYERS)
        )

    def forward(self, characters: LongTensor, lengths: LongTensor) -> Tensor:
        """Vectors [B, L, 2 * 512], the mean of the three layers, of characters [B, L, 50] and lengths [B]."""
        words = self.words(characters)
        positions = torch.arange(words.shape[1], device=words.device)
        reverse = (lengths[:, None] - 1 - positions).clamp(min=0)[:, :, None].expand_as(words)
        layers = [torch.cat([words, words], dim=2)]
        ahead, back = words, words.gather(1, reverse)
        for number, (forward_lstm, backward_lstm) in enumerate(zip(self.ahead, self.back, strict=True)):
            new_ahead, new_back = forward_lstm(ahead)[0], backward_lstm(back)[0]
            # A residual connection from the first layer to the second.
            ahead, back = (new_ahead + ahead, new_back + back) if number else (new_ahead, new_back)
            layers.append(torch.cat([ahead, back.gather(1, reverse)], dim=2))
        return torch.stack(layers).mean(dim=0)

    def words(self, characters: LongTensor) -> Tensor:
        """Word vectors [B, L, 512] from characters [B, L, 50], without context."""
        batch, length, _ = characters.shape
        spelled = self.characters(characters.flatten(0, 1)).transpose(1, 2)
        features = torch.cat([torch.relu(convolution(spelled).amax(dim=2)) for convolution in self.convolutions], dim=1)
        for highway in self.highways:
            carried, gate = highway(features).chunk(2, dim=1)
            gate = gate.sigmoid()
            features = gate * features + (1 - gate) * torch.relu(carried)
        return self.projection(features).view(batch, length, WIDTH)


def _one_bias(lstm: nn.LSTM) -> nn.LSTM:
    """PyTorch has two bias vectors a gate, of which only the sum counts; the second becomes a constant zero."""
    del lstm.bias_hh_l0
    lstm.register_buffer("bias_hh_l0", torch.zeros_like(lstm.bias_ih_l0), persistent=False)
    lstm._flat_weights = [getattr(lstm, name) for name in lstm._flat_weights_names]
    return lstm


def flops_a_word() -> float:
    """Floating-point operations for one word of a sentence: two for each weight of a matrix, at each of its uses."""
    convolutions = sum(width * CHARACTER_DIM * number * (CHARACTERS_A_WORD - width + 1) for width, number in FILTERS)
    channels = sum(number for _, number in FILTERS)
    dense = 2 * channels * 2 * channels + channels * WIDTH
    recurrent = 2 * LAYERS * (2 * WIDTH * 4 * CELLS + CELLS * WIDTH)
    return 2.0 * (convolutions + dense + recurrent)
