"""Models and students of the Hugging Face hub are read at their commit, without a network."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from distil import config, student, teacher
from distil.student import BiLSTMStudent

COMMIT = "0123456789abcdef" * 2 + "01234567"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
# The hub's client reads its settings when it is imported, so this runs in its own process.
SCRIPT = f"""
import json, sys
from pathlib import Path
from safetensors.torch import save_file
import distil
from distil import teacher
out, answers = Path(sys.argv[1]), {{}}
for name in ("new@{COMMIT}", "new@{COMMIT[::-1]}", "unseen@{COMMIT}"):
    try:
        folder, revision = teacher.resolve("someone/" + name)
        model, tokenizer = teacher.load(folder, 3, revision)
        save_file(model.state_dict(), out / name)
        answers[name] = tokenizer("A good [MASK] movie")["input_ids"]
    except teacher.ModelError as error:
        answers[name] = str(error)
answers["student"] = distil.load("someone/student@{COMMIT}").predict_proba("a film").tolist()
try:
    distil.load("someone/unseen@{COMMIT}")
except ValueError as error:
    answers["unseen student"] = str(error)
(out / "answers.json").write_text(json.dumps(answers))
"""


def into_cache(home, name):
    """Put a folder into the hub's cache: blobs, and a snapshot of links to them."""
    blobs = home / "hub" / f"models--someone--{name}" / "blobs"
    snapshot = blobs.parent / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for blob in (home / name).rename(blobs).iterdir():
        (snapshot / blob.name).symlink_to(os.path.relpath(blob, snapshot))


def write_bert(folder):
    """Write a network without a head, and its tokenizer; return its weights."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"vocab_size": len(WORDS), "intermediate_size": 48, "max_position_embeddings": 16}
    ids = {word: number for number, word in enumerate(WORDS)}
    transformers.BertTokenizer(vocab=ids).save_pretrained(folder)
    model = transformers.BertModel(transformers.BertConfig(**sizes))
    model.save_pretrained(folder)
    return {f"bert.{name}": value for name, value in model.state_dict().items()}


def test_models_and_students_are_loaded_at_their_commit(tmp_path):
    wanted = write_bert(tmp_path / "new")
    torch.manual_seed(2)
    sizes = {"hidden_size": 3, "fc_size": 4, "num_labels": 2, "dropout": 0.0, "pair": False}
    net = BiLSTMStudent(torch.randn(4, 5), **sizes, channels="static", pooling="last").eval()
    student.save(tmp_path / "student", net, ["", "", "a", "film"], ["no", "yes"])
    for name in ("new", "student"):
        into_cache(tmp_path, name)
    own = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=own, cwd=config.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads((tmp_path / "answers.json").read_text())
    probabilities = net(torch.tensor([[2, 3]]), torch.tensor([2])).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(answers.pop("student"), probabilities, atol=1e-6)
    assert "got 'someone/unseen@" in (line := answers.pop("unseen student")) and "\n" not in line
    assert answers.pop(f"new@{COMMIT}") == [2, 5, 6, 4, 1, 3]
    found = load_file(tmp_path / f"new@{COMMIT}")
    assert len(wanted) > 30 and len(found) == len(wanted) + 2  # the output layer's
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    for name, message in answers.items():
        assert f"cannot use someone/{name}" in message
    for name in ("someone/bert", "someone/bert@main", "no/such/folder"):
        with pytest.raises(teacher.ModelError, match="all 40 digits of a commit"):
            teacher.resolve(name)
