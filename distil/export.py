"""The student as an ONNX file, for any runtime: built operator by operator, since ONNX's LSTM is the student's to the letter.

It reads a batch with the length of each sentence, in both directions, and gives the last state of each: so padding is never
read. PyTorch's own exporter would unroll the recurrence to one length.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distil.student import BiLSTMStudent


def to_onnx(student: BiLSTMStudent, path: Path) -> None:
    """Write a student with pooling ``last``: ``ids`` [B, L], ``lengths`` [B] (``ids2``, ``lengths2``) to ``logits`` [B, labels].

    Raises:
        ValueError: the student pools by attention.
    """
    import onnx
    from onnx import TensorProto, helper

    if student.attention is not None:
        raise ValueError("wanted a student with pooling 'last', got one that pools by attention")
    nodes, features, inputs = [], [], []
    for end in ("", "2") if student.pair else ("",):
        nodes += _encoder(end, student.forward_lstm.hidden_size)
        features.append(f"features{end}")
        inputs.append(helper.make_tensor_value_info(f"ids{end}", TensorProto.INT64, ["batch", f"words{end}"]))
        inputs.append(helper.make_tensor_value_info(f"lengths{end}", TensorProto.INT64, ["batch"]))
    nodes += _head(features)
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", student.output.out_features])
    graph = helper.make_graph(nodes, "student", inputs, [output], initializer=_weights(student))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="distil", ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    onnx.save(model, part)
    part.replace(path)


def _encoder(end: str, hidden_size: int) -> list:
    """Nodes from ``ids`` and ``lengths`` to ``features`` [B, 2 h]; ``end`` tells the two sentences of a pair apart."""
    from onnx import TensorProto, helper

    recurrent = ["inputs" + end, "W", "R", "B", "lengths32" + end]
    return [
        helper.make_node("Gather", ["vectors", "ids" + end], ["vectors_of" + end]),
        helper.make_node("Transpose", ["vectors_of" + end], ["inputs" + end], perm=[1, 0, 2]),
        helper.make_node("Cast", ["lengths" + end], ["lengths32" + end], to=TensorProto.INT32),
        helper.make_node("LSTM", recurrent, ["", "last" + end], hidden_size=hidden_size, direction="bidirectional"),
        helper.make_node("Transpose", ["last" + end], ["states" + end], perm=[1, 0, 2]),
        helper.make_node("Flatten", ["states" + end], ["features" + end], axis=1),
    ]


def _head(features: list[str]) -> list:
    """Nodes from the features of one or two sentences to ``logits``."""
    from onnx import helper

    nodes, together = [], features[0]
    if len(features) == 2:
        together = "compared"
        nodes = [
            helper.make_node("Mul", features, ["product"]),
            helper.make_node("Sub", features, ["difference"]),
            helper.make_node("Abs", ["difference"], ["distance"]),
            helper.make_node("Concat", [*features, "product", "distance"], [together], axis=1),
        ]
    return [
        *nodes,
        helper.make_node("Gemm", [together, "fc.weight", "fc.bias"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "output.weight", "output.bias"], ["logits"], transB=1),
    ]


def _weights(student: BiLSTMStudent) -> list:
    from onnx import numpy_helper

    lstms = (student.forward_lstm, student.backward_lstm)
    arrays = {
        "vectors": torch.cat([channel.weight for channel in student.channels], dim=1),
        "W": torch.stack([_gates(lstm.weight_ih_l0) for lstm in lstms]),
        "R": torch.stack([_gates(lstm.weight_hh_l0) for lstm in lstms]),
        "B": torch.stack([torch.cat([_gates(lstm.bias_ih_l0), _gates(lstm.bias_hh_l0)]) for lstm in lstms]),
    }
    for name in ("fc", "output"):
        layer: nn.Linear = getattr(student, name)
        arrays |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return [numpy_helper.from_array(_numpy(tensor), name) for name, tensor in arrays.items()]


def _gates(weight: Tensor) -> Tensor:
    """PyTorch's order of gates, input, forget, cell, output, as ONNX's: input, output, forget, cell."""
    enter, forget, cell, out = weight.chunk(4)
    return torch.cat([enter, out, forget, cell])


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
