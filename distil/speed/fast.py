"""The student for use, not for training: the same logits, several times faster on a CPU.

Half of an LSTM's arithmetic is on its inputs: here that is done once per word of the vocabulary, as
``gates = table[word] + h W``. Both directions step together, and their cell is compiled for batches.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from distil.student import BiLSTMStudent

FORMS = ("float32", "bfloat16", "int8")
FEW_WORDS = 1024  # a batch of no more words, both directions counted, is looked up at once
WORTH_COMPILING = 32  # sentences; with fewer, compiled code checks its inputs for too long


class FastStudent(nn.Module):
    """A trained ``BiLSTMStudent`` with embeddings and input projections folded into one table.

    Args:
        student: one with pooling ``last``, for sentences or pairs.
        form: ``float32`` (equal logits), ``bfloat16`` (table and recurrence) or ``int8`` (the
            table in bytes, the recurrence in bfloat16).
    """

    forward = BiLSTMStudent.forward

    def __init__(self, student: BiLSTMStudent, form: str = "float32") -> None:
        super().__init__()
        if student.attention is not None or form not in FORMS:
            raise ValueError(f"wanted pooling 'last' and a form of {FORMS}, got {form!r}")
        lstms = (student.forward_lstm, student.backward_lstm)
        self.pair, self.dtype = student.pair, torch.float32 if form == "float32" else torch.bfloat16
        with torch.no_grad():
            vectors = torch.cat([channel.weight for channel in student.channels], dim=1)
            # [2 V, 4 h]: the rows of the backward direction come after those of the forward one.
            table = torch.cat([_gates_of(vectors, lstm) for lstm in lstms])
            scale = None
            if form == "int8":
                # The scale is rounded before it divides, so that the same number multiplies later.
                scale = (table.abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-8).to(self.dtype)
                table = (table / scale.float()).round().clamp(-127, 127)
            recurrent = torch.stack([lstm.weight_hh_l0.T for lstm in lstms]).to(self.dtype)
        self.register_buffer("scale", scale)
        self.register_buffer("table", table.to(torch.int8 if form == "int8" else self.dtype))
        self.register_buffer("recurrent", recurrent)
        self.fc, self.output, self.dropout = student.fc, student.output, nn.Identity()

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return sentence features [B, 2 * hidden_size] in float32."""
        order = lengths.argsort(descending=True)
        ids, lengths = ids[order], lengths[order]
        places = torch.arange(int(lengths[0]), device=ids.device)
        reverse = (lengths[:, None] - 1 - places).clamp(min=0)
        backward = ids.gather(1, reverse) + len(self.table) // 2
        both = torch.stack([ids[:, : len(places)], backward]).permute(2, 0, 1)  # [L, 2, B] of rows
        at_once = self.gates(both) if both.numel() <= FEW_WORDS else None
        hidden = self.recurrent.new_zeros(2, len(ids), self.recurrent.shape[1])
        memory = torch.zeros_like(hidden)
        fast = compiled_cell(self.dtype, ids.device) if len(ids) >= WORTH_COMPILING else cell
        ended: list[Tensor] = []  # last states, those of longer sentences later
        for step, rows in enumerate((lengths[None] > places[:, None]).sum(dim=1).tolist()):
            if rows < hidden.shape[1]:  # the longest come first
                ended.append(hidden[:, rows:])
                # The compiler makes one variant per layout and stops after eight: one layout only.
                hidden, memory = hidden[:, :rows].contiguous(), memory[:, :rows].contiguous()
            next_states = fast if rows >= WORTH_COMPILING else cell
            gates = self.gates(both[step, :, :rows]) if at_once is None else at_once[step, :, :rows]
            hidden, memory = next_states(gates, hidden, memory, self.recurrent)
        last = torch.cat([hidden, *reversed(ended)], dim=1).transpose(0, 1).flatten(1).float()
        return torch.empty_like(last).index_copy_(0, order, last)

    def gates(self, rows: Tensor) -> Tensor:
        """Return the inputs' share of the gates [..., 4 * hidden_size] for table rows [...]."""
        found = functional.embedding(rows, self.table)
        if self.scale is None:
            return found
        return found.to(self.dtype) * functional.embedding(rows, self.scale)


def _gates_of(vectors: Tensor, lstm: nn.LSTM) -> Tensor:
    return vectors @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0


def cell(gates: Tensor, hidden: Tensor, memory: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
    """Return new hidden states and memories [2, B, h] of two LSTMs after one step.

    It reads gates [2, B, 4 h] and recurrent weights [2, h, 4 h].
    """
    enter, forget, value, out = torch.baddbmm(gates, hidden, recurrent).chunk(4, dim=2)
    memory = forget.sigmoid() * memory + enter.sigmoid() * value.tanh()
    return out.sigmoid() * memory.tanh(), memory


@functools.cache
def compiled_cell(dtype: torch.dtype, device: torch.device) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the cell compiled for a device, or the plain one where the compiler fails there."""
    fast = torch.compile(cell, dynamic=True, isolate_recompiles=True)  # variants counted apart
    zeros = functools.partial(torch.zeros, dtype=dtype, device=device)
    with torch.inference_mode(False):  # as in use: weights are ordinary tensors, but states are not
        recurrent = zeros(2, 150, 600)  # a student's size; any other would be one more variant
    try:
        with torch.inference_mode():
            fast(*(zeros(2, 512, width) for width in (600, 150, 150)), recurrent)
    except Exception:  # whatever the compiler lacks, the plain cell gives the same result
        return cell
    return fast
