"""The ONNX file gives PyTorch's logits, for single sentences and pairs of any length."""

import numpy as np
import onnxruntime
import pytest
import torch

from distil import export
from distil.student import BiLSTMStudent


def student(pair, pooling="last"):
    torch.manual_seed(2)
    vectors = torch.randn(40, 6)
    model = BiLSTMStudent(
        vectors,
        hidden_size=7,
        fc_size=5,
        num_labels=3,
        pair=pair,
        channels="multichannel",
        pooling=pooling,
        dropout=0.4,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def batch(n, longest, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (n,), generator=generator)
    return torch.randint(1, 40, (n, longest), generator=generator).masked_fill(
        torch.arange(longest) >= lengths[:, None], 0
    ), lengths


@pytest.mark.parametrize("pair", [False, True])
def test_onnxruntime_gives_the_logits_of_pytorch(pair, tmp_path):
    model = student(pair)
    export.to_onnx(model, tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "student.onnx"), providers=["CPUExecutionProvider"])
    for n, longest in ((1, 1), (1, 8), (23, 13)):  # one file for every batch and length
        tensors = [*batch(n, longest, 1), *(batch(n, longest + 2, 2) if pair else [])]
        feed = {one.name: tensor.numpy() for one, tensor in zip(session.get_inputs(), tensors, strict=True)}
        with torch.inference_mode():
            np.testing.assert_allclose(session.run(None, feed)[0], model(*tensors).numpy(), atol=1e-5, rtol=1e-4)


def test_attention_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pooling 'last'"):
        export.to_onnx(student(False, "attention"), tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
