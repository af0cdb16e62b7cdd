"""The fast student gives the student's logits: folded, sorted, stepped through, in any form."""

import pytest
import torch

from distil.speed import fast, onnx
from distil.speed.fast import FastStudent
from distil.student import BiLSTMStudent


def student(pair=False, channels="multichannel", pooling="last", labels=3):
    torch.manual_seed(5)
    vectors = torch.randn(60, 10)
    vectors[0] = 0
    sizes = {"hidden_size": 14, "fc_size": 9, "num_labels": labels, "dropout": 0.3}
    model = BiLSTMStudent(vectors, **sizes, pair=pair, channels=channels, pooling=pooling)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at the start: gates open and close
            parameter.mul_(3)
    return model.eval()


def sentences(n, longest, pair=False):
    torch.manual_seed(n)
    lengths = [torch.randint(1, longest + 1, (n,)) for _ in range(1 + pair)]
    return [x for one in lengths for x in (torch.randint(1, 60, (n, longest)), one)]


@pytest.fixture(params=["compiled", "plain"])
def cell(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(fast, "compiled_cell", lambda *_: fast.cell)


@pytest.mark.parametrize("channels", ["static", "multichannel"])
@pytest.mark.parametrize("pair", [False, True])
def test_the_logits_are_the_students(cell, pair, channels):
    model = student(pair, channels)
    quick = FastStudent(model)
    for n, longest in ((1, 1), (1, 9), (37, 12), (40, 60)):  # the last is looked up step by step
        inputs = sentences(n, longest, pair)
        with torch.inference_mode():
            torch.testing.assert_close(quick(*inputs), model(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("form", "near"), [("bfloat16", 0.1), ("int8", 0.15)])
def test_smaller_forms_are_near_and_smaller_and_others_are_refused(form, near, tmp_path):
    model, inputs = student(labels=2), sentences(300, 12)
    exact, small = FastStudent(model), FastStudent(model, form)
    with torch.inference_mode():
        wanted, got = exact(*inputs), small(*inputs)
    assert 0 < (wanted - got).abs().max() < near * wanted.abs().max()
    sizes = [sum(buffer.nbytes for buffer in one.buffers()) for one in (exact, small)]
    assert got.dtype == torch.float32 and sizes[1] < 0.55 * sizes[0]
    for make in (FastStudent, lambda model: onnx.to_onnx(model, tmp_path / "student.onnx")):
        with pytest.raises(ValueError, match="pooling 'last'"):
            make(student(pooling="attention"))
    with pytest.raises(ValueError, match="'int4'"):
        FastStudent(model, "int4")
