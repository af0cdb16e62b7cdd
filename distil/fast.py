"""The student for use, not for training: the same logits, several times as fast on a CPU.

An LSTM spends half its arithmetic on its inputs, and the student's inputs are word vectors, of which there are as many as words.
So the input side is worked out once a word: ``gates = table[word] + h W``. What is left is the recurrence, of which both
directions take a step together; for a batch its cell is compiled, where there is a compiler.
"""

import functools
from collections.abc import Callable

import torch
from torch import LongTensor, Tensor, nn
from torch.nn import functional

from distil.student import BiLSTMStudent

FORMS = ("float32", "bfloat16", "int8")
FEW_WORDS = 1024  # words, in both directions together, that are looked up before the first step instead of at theirs
WORTH_COMPILING = 32  # sentences; fewer take a step sooner than a compiled function has checked what it was given


class FastStudent(nn.Module):
    """A trained ``BiLSTMStudent`` with embeddings and input projections folded into one table.

    Args:
        student: of either kind, with ``pooling`` ``last``.
        form: ``float32`` (equal logits), ``bfloat16`` (table and recurrence), or ``int8`` (table in bytes, the rest in bfloat16).
    """

    def __init__(self, student: BiLSTMStudent, form: str = "float32") -> None:
        super().__init__()
        if student.attention is not None or form not in FORMS:
            raise ValueError(f"wanted a student with pooling 'last' and a form of {FORMS}, got {form!r}")
        lstms = (student.forward_lstm, student.backward_lstm)
        self.pair, self.dtype = student.pair, torch.float32 if form == "float32" else torch.bfloat16
        with torch.no_grad():
            vectors = torch.cat([channel.weight for channel in student.channels], dim=1)
            tables = [vectors @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0 for lstm in lstms]
            table = torch.cat(tables)  # [2 V, 4 h], the rows of the backward direction after the forward's
            self.register_buffer("scale", None)
            if form == "int8":
                # Rounded before it divides: what multiplies later is then the same number.
                scale = (table.abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-8).to(self.dtype)
                self.scale = scale
                table = (table / scale.float()).round().clamp(-127, 127)
            self.register_buffer("table", table.to(torch.int8 if form == "int8" else self.dtype))
            self.register_buffer("recurrent", torch.stack([lstm.weight_hh_l0.T for lstm in lstms]).to(self.dtype))
        self.fc, self.output = student.fc, student.output
        self.cell = compiled_cell(self.dtype)

    def forward(
        self, ids: LongTensor, lengths: LongTensor, ids2: LongTensor | None = None, lengths2: LongTensor | None = None
    ) -> Tensor:
        """Logits [B, num_labels] in float32, of the same arguments as the student's."""
        features = self.encode(ids, lengths)
        if ids2 is not None:
            second = self.encode(ids2, lengths2)
            features = torch.cat([features, second, features * second, (features - second).abs()], dim=1)
        return self.output(torch.relu(self.fc(features)))

    def encode(self, ids: LongTensor, lengths: LongTensor) -> Tensor:
        """Sentence features [B, 2 * hidden_size] in float32."""
        order = lengths.argsort(descending=True)
        ids, lengths = ids[order], lengths[order]
        places = torch.arange(int(lengths[0]), device=ids.device)
        reverse = (lengths[:, None] - 1 - places).clamp(min=0)
        backward = ids.gather(1, reverse) + len(self.table) // 2
        both = torch.stack([ids[:, : len(places)], backward]).permute(2, 0, 1)  # [L, 2, B], rows of the table
        at_once = self.gates(both) if both.numel() <= FEW_WORDS else None
        hidden = self.recurrent.new_zeros(2, len(ids), self.recurrent.shape[1])
        memory = torch.zeros_like(hidden)
        ended: list[Tensor] = []  # last states, of the longer sentences later
        for step, rows in enumerate((lengths[None] > places[:, None]).sum(dim=1).tolist()):
            if rows < hidden.shape[1]:  # the longest come first
                ended.append(hidden[:, rows:])
                # Contiguous, since the compiler makes a variant for each layout, and after eight makes no more.
                hidden, memory = hidden[:, :rows].contiguous(), memory[:, :rows].contiguous()
            next_states = self.cell if rows >= WORTH_COMPILING else cell
            gates = self.gates(both[step, :, :rows]) if at_once is None else at_once[step, :, :rows]
            hidden, memory = next_states(gates, hidden, memory, self.recurrent)
        features = torch.empty(len(ids), 2 * hidden.shape[2], device=ids.device)
        features[order] = torch.cat([hidden, *reversed(ended)], dim=1).transpose(0, 1).flatten(1).float()
        return features

    def gates(self, rows: LongTensor) -> Tensor:
        """What words give to the gates [..., 4 * hidden_size], of their rows of the table [...]."""
        found = functional.embedding(rows, self.table)
        if self.scale is None:
            return found
        return found.to(self.dtype) * functional.embedding(rows, self.scale)


def cell(gates: Tensor, hidden: Tensor, memory: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
    """One step of two LSTMs: new hidden states and memories [2, B, h], of gates [2, B, 4 h] and recurrent weights [2, h, 4 h]."""
    enter, forget, value, out = torch.baddbmm(gates, hidden, recurrent).chunk(4, dim=2)
    memory = forget.sigmoid() * memory + enter.sigmoid() * value.tanh()
    return out.sigmoid() * memory.tanh(), memory


@functools.cache
def compiled_cell(dtype: torch.dtype) -> Callable[..., tuple[Tensor, Tensor]]:
    """The cell as compiled code, or as it is on a machine without a C++ compiler: slower, the same numbers."""
    fast = torch.compile(cell, dynamic=True, isolate_recompiles=True)  # the compiler counts the variants of each apart
    # Ordinary tensors, as a model's are, of a student's size: the compiler writes other code for a few numbers.
    recurrent = torch.zeros(2, 150, 600, dtype=dtype)
    try:
        with torch.inference_mode():
            fast(*(torch.zeros(2, 512, width, dtype=dtype) for width in (600, 150, 150)), recurrent)
    except Exception:  # whatever the compiler lacks, the plain function has the same result
        return cell
    return fast
