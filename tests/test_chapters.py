"""The paper's code in the chapters is the code of ``distil``, and a chapter is more than plumbing."""

import ast
import inspect
import textwrap
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

from distil import augment, config, metrics, student, train

CHAPTERS = {path.stem[:2]: path for path in (config.ROOT / "notebooks").glob("0*.ipynb")}
SAME = {  # (chapter, function in a cell) -> the function of distil
    ("03", "augment_sentence"): augment.augment,
    ("04", "__init__"): student.BiLSTMStudent.__init__,
    ("04", "encode"): student.BiLSTMStudent.encode,
    ("04", "forward"): student.BiLSTMStudent.forward,
    ("04", "distillation_loss"): train.distillation_loss,
    ("04", "_dense"): train._dense,
    ("06", "bootstrap"): metrics.bootstrap,
    ("06", "_counts"): metrics._counts,
    ("06", "_scores"): metrics._scores,
}


def code_cells(chapter):
    cells = nbformat.read(CHAPTERS[chapter], as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def cell_of(chapter, name):
    (found,) = [cell for cell in code_cells(chapter) if f"def {name}(" in cell.source]
    return found.source


def bare(source, name):
    """Return the syntax tree of a function without name, types and docstring."""
    tree = ast.parse(textwrap.dedent(source))
    (node,) = [one for one in ast.walk(tree) if getattr(one, "name", "") == name]
    node.body = node.body[1:] if ast.get_docstring(node) else node.body
    for one in (*node.args.args, *node.args.kwonlyargs):
        one.annotation = None
    return ast.dump(ast.Module([node.args, *node.body], []))


@pytest.mark.parametrize("chapter, name", SAME)
def test_a_function_in_a_chapter_is_the_one_that_runs(chapter, name):
    ours = inspect.getsource(function := SAME[chapter, name])
    assert bare(cell_of(chapter, name), name) == bare(ours, function.__name__)


def test_the_loop_of_chapter_02_is_the_trainers(tmp_path):
    """One batch is the whole set, so that the order of the examples does not matter."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    shape = transformers.BertConfig(vocab_size=20, **sizes)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(transformers.BertForSequenceClassification(shape))
    ids, labels = torch.randint(5, 20, (8, 6)), torch.tensor([0, 1] * 4)
    names = {"torch": torch, "F": functional, "transformers": transformers}
    names |= {"warmup": 0.5, "weight_decay": 0.0}
    exec(cell_of("02", "fine_tune"), names)
    losses = names["fine_tune"](models[0], [({"input_ids": ids}, labels)], epochs=4, lr=1e-2)
    rows = [{"input_ids": i, "labels": label} for i, label in zip(ids, labels, strict=True)]
    options = {"learning_rate": 1e-2, "num_train_epochs": 4, "per_device_train_batch_size": 8}
    options |= {"warmup_steps": 0.5, "weight_decay": 0.0, "save_strategy": "no", "report_to": []}
    arguments = transformers.TrainingArguments(str(tmp_path), **options, use_cpu=True)
    transformers.Trainer(models[1], arguments, train_dataset=rows).train()
    assert len(losses) == 4 and losses[-1] < losses[0]
    for ours, theirs in zip(*(model.state_dict().values() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_words_of_a_class_are_its_own_where_training_lacks_another(capsys):
    (cell,) = [cell.source for cell in code_cells("01") if "get_feature_names_out" in cell.source]
    names = {"np": np, "spec": SimpleNamespace(labels="abc", meanings="abc")}
    names["regression"] = SimpleNamespace(coef_=np.array([[2.0, 1.0]]), classes_=[0, 2])
    names["tfidf"] = SimpleNamespace(get_feature_names_out=lambda: np.array(["good", "fine"]))
    exec(cell, names)
    assert capsys.readouterr().out.split() == ["a", "fine,", "good", "c", "good,", "fine"]


@pytest.mark.parametrize("chapter", ["01", "02", "03", "04", "05", "06", "07"])
def test_a_chapter_is_more_than_plumbing(chapter):
    lines = {True: 0, False: 0}
    for cell in code_cells(chapter):
        tags = set(cell.metadata.get("tags", []))
        if "reading" not in tags:  # a sentence about an output
            lines[bool({"parameters", "hide-input"} & tags)] += len(cell.source.splitlines())
    assert lines[True] <= lines[False] / 2, lines  # a third of all


def test_the_readme_is_short():
    words = (config.ROOT / "README.md").read_text(encoding="utf-8").split()
    assert len(words) <= 950, len(words)
