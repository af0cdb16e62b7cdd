"""The student for use, not for training: the same logits, several times as fast on a CPU.

An LSTM spends half its arithmetic on its inputs, and the student's inputs are word vectors, of which there are as many as words.
So the input side is worked out once a word: ``gates = table[word] + h W``. What is left is the recurrence. Its cell is compiled,
where there is a compiler, and both directions take a step together.
"""

import functools
from collections.abc import Callable

import torch
from torch import LongTensor, Tensor, nn

from distil.student import BiLSTMStudent

FORMS = ("float32", "bfloat16", "int8")


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
            table = torch.stack(tables)  # [2, V, 4 h]
            self.register_buffer("scale", None)
            if form == "int8":
                # Rounded before it divides: what multiplies later is then the same number.
                scale = (table.abs().amax(dim=2, keepdim=True) / 127).clamp(min=1e-8).to(self.dtype)
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
        reverse = (lengths[:, None] - 1 - torch.arange(ids.shape[1], device=ids.device)).clamp(min=0)
        both = torch.stack([ids, ids.gather(1, reverse)])  # [2, B, L]
        running = (lengths[None] > torch.arange(ids.shape[1], device=ids.device)[:, None]).sum(dim=1).tolist()
        hidden = self.recurrent.new_zeros(2, len(ids), self.recurrent.shape[1])
        memory = torch.zeros_like(hidden)
        for step in range(int(lengths[0])):
            rows = running[step]  # longest first: those that have ended keep their last state
            gates = self.gates(both[:, :rows, step])
            hidden[:, :rows], memory[:, :rows] = self.cell(gates, hidden[:, :rows], memory[:, :rows], self.recurrent)
        features = torch.empty(len(ids), 2 * hidden.shape[2], device=ids.device)
        features[order] = torch.cat([hidden[0], hidden[1]], dim=1).float()
        return features

    def gates(self, ids: LongTensor) -> Tensor:
        """What the words [2, B] give to the gates, [2, B, 4 * hidden_size]."""
        found = torch.stack([self.table[0][ids[0]], self.table[1][ids[1]]])
        if self.scale is None:
            return found
        return found.to(self.dtype) * torch.stack([self.scale[0][ids[0]], self.scale[1][ids[1]]])


def cell(gates: Tensor, hidden: Tensor, memory: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
    """One step of two LSTMs: new hidden states and memories [2, B, h], of gates [2, B, 4 h] and recurrent weights [2, h, 4 h]."""
    enter, forget, value, out = torch.baddbmm(gates, hidden, recurrent).chunk(4, dim=2)
    memory = forget.sigmoid() * memory + enter.sigmoid() * value.tanh()
    return out.sigmoid() * memory.tanh(), memory


@functools.cache
def compiled_cell(dtype: torch.dtype) -> Callable[..., tuple[Tensor, Tensor]]:
    """The cell as compiled code, or as it is on a machine without a C++ compiler: slower, the same numbers."""

    def of_this_type(gates: Tensor, hidden: Tensor, memory: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
        return cell(gates, hidden, memory, recurrent)  # a function of its own: the compiler counts the variants of each

    fast = torch.compile(of_this_type, dynamic=True)
    zeros = functools.partial(torch.zeros, dtype=dtype)
    try:
        with torch.inference_mode():
            fast(zeros(2, 3, 8), zeros(2, 3, 2), zeros(2, 3, 2), zeros(2, 2, 8))
    except Exception:  # whatever the compiler lacks, the plain function has the same result
        return cell
    return fast
