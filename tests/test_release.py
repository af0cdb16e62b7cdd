"""A release: small, scored on the very file, loadable in three lines, and honest about what it is."""

import numpy as np
import pytest
import torch
from datasets import DatasetDict

from distil import data, packages, paths, records, release, sealed, student
from distil.records import KEYS, RecordError
from distil.tasks import QQP, SST2, TASKS


@pytest.fixture(params=["sst2", "qqp"])
def task(request, tmp_path, monkeypatch):
    """Two seeds of a tiny student on the toy set, with records; seed 1 is the better one."""
    task = request.param
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    spec = TASKS[task]
    splits = data.load_task(task, "toy")
    data.prepare(DatasetDict(splits), spec, paths.artifact("p", task, "data"), max_train=0, max_dev=0, seed=0)
    words = ["<pad>", "<unk>", "a", "film", "good"]
    gold = np.array(splits["dev"]["label"][:])
    for seed, accuracy in ((0, 0.6), (1, 0.7)):
        torch.manual_seed(seed)
        model = student.BiLSTMStudent(
            torch.randn(5, 8), hidden_size=4, fc_size=4, num_labels=2, pair=spec.pair, channels="multichannel",
            pooling="last", dropout=0.0,
        )  # fmt: skip
        student.save(paths.artifact("p", task, f"student-distilled-seed{seed}"), model, words)
        record = {key: {} for key in KEYS} | {"profile": "p", "task": task, "role": "student-distilled", "seed": seed}
        record |= {
            "dataset": "vader-movie",
            "metrics": {"dev": {"accuracy": accuracy}},
            "training_examples": 900,
            "synthetic_examples": 660,
        }
        record |= {
            "rows": {"train": 240},
            "n_params": {"total": 1234, "non_embedding": 567},
            "vocabulary": {"words": 5},
        }
        record |= {"git": {"commit": "f" * 40}, "versions": {"torch": "9"}, "config": {"model": "packages"}}
        weights = paths.artifact("p", task, f"student-distilled-seed{seed}") / "model.safetensors"
        record |= {"outputs": {"model.safetensors": packages.sha256(weights)}}
        right = {"dev": (np.eye(2)[gold], gold)}
        records.write(paths.run_record("p", task, "student-distilled", seed), record, right)
    for role in ("teacher", "transfer-set"):
        records.write(paths.run_record("p", task, role, 0), record | {"role": role, "seed": 0, "outputs": {}}, right)
    return task


def test_the_best_seed_is_released_and_scored_on_its_own_file(task, tmp_path):
    folder = tmp_path / "release"
    accuracy = release.write("p", task, folder)
    best, _ = student.load(paths.artifact("p", task, "student-distilled-seed1"))
    given, _ = student.load(folder)
    for name, tensor in given.state_dict().items():
        assert torch.equal(tensor, best.state_dict()[name].half().float()), name
    assert accuracy == release.evaluate("p", task, folder)[0]
    assert (folder / "student.onnx").stat().st_size > 1000
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{accuracy:.1%}" in card and "(1, the best of 2)" in card and "660 synthetic" in card and "MIT" in card


def test_three_lines_answer_a_sentence(task, tmp_path):
    release.write("p", task, tmp_path / "release")
    classify = release.load(tmp_path / "release")
    sentences = ["A good film."] * (2 if task == "qqp" else 1)
    answer = classify(*sentences)
    assert tuple(answer) == (QQP if task == "qqp" else SST2).meanings and sum(answer.values()) == pytest.approx(
        1, abs=1e-3
    )
    assert answer != classify(*["xyz"] * len(sentences))


def test_what_is_missing_is_said(task, tmp_path):
    with pytest.raises(RecordError, match="make reproduce PROFILE=q"):
        release.write("q", task, tmp_path / "release")
    for seed in (0, 1):
        (paths.artifact("p", task, f"student-distilled-seed{seed}") / "config.json").unlink()
    with pytest.raises(RecordError, match="only records: make clean, then make reproduce PROFILE=p"):
        release.write("p", task, tmp_path / "release")


def test_seeds_that_a_clone_has_only_records_of_do_not_count(task, tmp_path):
    """The better seed 1 came with the clone; only seed 0 was trained here."""
    (paths.artifact("p", task, "student-distilled-seed1") / "config.json").unlink()
    release.write("p", task, tmp_path / "release")
    assert "(0, the best of 1)" in (tmp_path / "release" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.txt", "config.json"])
def test_a_damaged_student_is_not_given_away(task, tmp_path, name):
    path = paths.artifact("p", task, "student-distilled-seed1") / name
    raw = path.read_bytes()
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    with pytest.raises(sealed.SealError, match=name):
        release.write("p", task, tmp_path / "release")
    assert not (tmp_path / "release").exists()


def test_only_the_student_on_record_is_given_away(task, tmp_path):
    one, other = (paths.artifact("p", task, f"student-distilled-seed{seed}") for seed in (1, 0))
    for path in other.iterdir():
        (one / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RecordError, match="not the student of its record"):
        release.write("p", task, tmp_path / "release")


def test_a_new_release_replaces_the_old_one(task, tmp_path):
    release.write("p", task, tmp_path / "release")
    (tmp_path / "release" / "README.md").write_text("edited")
    release.load(tmp_path / "release")
    path = paths.run_record("p", task, "student-distilled", 0)
    best = records.read(path) | {"metrics": {"dev": {"accuracy": 0.9}}}
    records.write(path, best, records.read_predictions(path))
    release.write("p", task, tmp_path / "release")
    card = (tmp_path / "release" / "README.md").read_text().replace("\n", " ")
    assert "this seed (0, the best of 2)" in card
    assert not sealed.broken(tmp_path / "release")
