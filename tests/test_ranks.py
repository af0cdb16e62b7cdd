"""Two processes on one step (gloo, CPU): one teacher comes out, and the labels are those of a single process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from distil import paths, pretrained, steps, teacher, transfer
from distil.augment import SYNTHETIC, Sample
from distil.steps import Step, StepError

# What both processes run; the test runs its second half alone.
PROGRAM = """
import json, sys
from pathlib import Path
from distil import data, paths, pretrained, ranks, teacher
from distil.config import TeacherConfig
from distil.tasks import SST2
sys.path.insert(0, {tests!r})
from test_ranks import label

home = Path(sys.argv[1])
paths.ARTIFACTS = home / "artifacts"
splits = data.load_task("sst2", "toy")
splits["train"], splits["dev"] = splits["train"].select(range(64)), splits["dev"].select(range(16))
config = TeacherConfig("tiny", "joint", [1.0e-3, 3.0e-3], 2, 16, 32, 0.1, 0.01, 1)
history = teacher.fine_tune(splits, SST2, config, seed=0, folder=home / "teacher")
label(home / "teacher", home / "set")
(home / f"history-{{ranks.rank()}}.json").write_text(json.dumps(history))
"""


def label(folder, target):
    """Label 50 sentences in shards of 7."""
    model, tokenizer = pretrained.load(folder, 2)
    samples = [Sample(i, SYNTHETIC, (f"a fine film {'very ' * (i % 5)}{i}",)) for i in range(50)]

    def predict(texts):
        return teacher.predict_logits(model, tokenizer, texts, token_budget=64, progress=False)

    return transfer.write_labelled(samples, predict, target, identity="x", shard_rows=7)[0]


def test_two_processes_give_one_teacher_and_the_labels_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "bf16_is_faster", lambda device: False)  # as several processes do on a CPU
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(paths.ROOT / "tests")), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(program),
        str(tmp_path),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"history-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and [entry["lr"] for entry in first] == [1.0e-3] * 2 + [3.0e-3] * 2
    assert not list(tmp_path.glob("teacher-lr*"))
    assert label(tmp_path / "teacher", tmp_path / "alone") == 50
    together, alone = (transfer.read(tmp_path / name) for name in ("set", "alone"))
    assert len(list((tmp_path / "set").glob("part-*.parquet"))) == 8
    assert together["sentence1"].equals(alone["sentence1"])
    np.testing.assert_allclose(transfer.logits(together), transfer.logits(alone), atol=1e-6)


def test_other_steps_are_for_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    step = Step("04_student", "smoke", "sst2", "student-baseline", "", 0, 0)
    with pytest.raises(StepError, match="is for one process; 02_teacher and 03_transfer_set can share"):
        steps.run(step)
