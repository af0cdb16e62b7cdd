"""The ONNX file gives PyTorch's logits, for single sentences and pairs of any length."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic

from distil.speed import onnx
from distil.student import BiLSTMStudent


def student(pair, pooling="last"):
    torch.manual_seed(2)
    sizes = {"hidden_size": 7, "fc_size": 5, "num_labels": 3, "dropout": 0.4, "pair": pair}
    vectors = torch.randn(40, 6)
    model = BiLSTMStudent(vectors, **sizes, channels="multichannel", pooling=pooling)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


@pytest.mark.parametrize("pair", [False, True])
def test_onnxruntime_gives_the_logits_of_pytorch(pair, tmp_path):
    model, path = student(pair), tmp_path / "student.onnx"
    onnx.to_onnx(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    quantize_dynamic(path, tmp_path / "bytes.onnx", reduce_range=True)
    in_bytes = onnxruntime.InferenceSession(tmp_path / "bytes.onnx")
    for n, longest in ((1, 1), (1, 8), (23, 13)):  # one file for every batch and length
        feed = {}
        for end, more in (("", 0), ("2", 2))[: 1 + pair]:
            feed["ids" + end] = torch.randint(1, 40, (n, longest + more))
            feed["lengths" + end] = torch.randint(1, longest + more + 1, (n,))
        fed = {name: tensor.numpy() for name, tensor in feed.items()}
        with torch.inference_mode():
            wanted = model(**feed).numpy()
        for runtime, error in ((session, 1e-5), (in_bytes, 0.2)):
            got = runtime.run(["logits"], fed)[0]
            np.testing.assert_allclose(got, wanted, atol=error, rtol=1e-4)


def test_attention_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pooling 'last'"):
        onnx.to_onnx(student(False, "attention"), tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
