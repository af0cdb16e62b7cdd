"""The student as an ONNX file, for runtimes other than PyTorch.

ONNX's LSTM reads sentences of different lengths in both directions and gives the last states, as the
student does. The graph is written by hand: PyTorch's exporter would unroll it to one length.
"""

from pathlib import Path

import torch
from torch import Tensor

from distil.student import BiLSTMStudent

ENCODER = """
    vectors_of{n} = Gather (vectors, ids{n})
    inputs{n} = Transpose <perm = [1, 0, 2]> (vectors_of{n})
    lengths32{n} = Cast <to = 6> (lengths{n})
    "", last{n} = LSTM <hidden_size = {size}, direction = "bidirectional">
        (inputs{n}, W{n}, R{n}, B, lengths32{n})
    states{n} = Transpose <perm = [1, 0, 2]> (last{n})
    h{n} = Flatten <axis = 1> (states{n})"""
COMPARE = """
    product = Mul (h, h2)
    difference = Sub (h, h2)
    distance = Abs (difference)
    features = Concat <axis = 1> (h, h2, product, distance)"""
HEAD = """
    hidden = Gemm <transB = 1> ({features}, fc_weight, fc_bias)
    active = Relu (hidden)
    logits = Gemm <transB = 1> (active, output_weight, output_bias)"""


def to_onnx(student: BiLSTMStudent, path: Path) -> None:
    """Write a student: ``ids`` [B, L], ``lengths`` [B] (``ids2``, ``lengths2``) -> ``logits``.

    Raises:
        ValueError: the student pools by attention.
    """
    import onnx.parser

    if student.attention is not None:
        raise ValueError("wanted a student with pooling 'last', got one that pools by attention")
    names = ("", "2") if student.pair else ("",)
    size = student.forward_lstm.hidden_size
    inputs = [f"int64[batch, words{n}] ids{n}, int64[batch] lengths{n}" for n in names]
    body = "".join(ENCODER.format(n=n, size=size) for n in names)
    body += COMPARE * student.pair + HEAD.format(features="features" if student.pair else "h")
    outputs = f"float[batch, {student.output.out_features}] logits"
    graph = onnx.parser.parse_graph(f"student ({', '.join(inputs)}) => ({outputs}) {{{body}\n}}")
    weights = _weights(student)
    # Copies: ONNX Runtime's quantize_dynamic damages weights that two LSTMs share.
    copies = {f"{name}2": weights[name] for name in ("W", "R") if student.pair}
    for name, tensor in (weights | copies).items():
        array = tensor.detach().cpu().float().contiguous().numpy()
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _weights(student: BiLSTMStudent) -> dict[str, Tensor]:
    """Return the graph's weights; first those that both directions of the LSTM share."""
    lstms = (student.forward_lstm, student.backward_lstm)
    biases = [[_reorder(lstm.bias_ih_l0), _reorder(lstm.bias_hh_l0)] for lstm in lstms]
    return {
        "vectors": torch.cat([channel.weight for channel in student.channels], dim=1),
        "W": torch.stack([_reorder(lstm.weight_ih_l0) for lstm in lstms]),
        "R": torch.stack([_reorder(lstm.weight_hh_l0) for lstm in lstms]),
        "B": torch.stack([torch.cat(pair) for pair in biases]),
        "fc_weight": student.fc.weight,
        "fc_bias": student.fc.bias,
        "output_weight": student.output.weight,
        "output_bias": student.output.bias,
    }


def _reorder(weight: Tensor) -> Tensor:
    """Turn PyTorch's order of gates (input, forget, cell, output) into ONNX's (i, o, f, c)."""
    enter, forget, cell, out = weight.chunk(4)
    return torch.cat([enter, out, forget, cell])
