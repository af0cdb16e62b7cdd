"""Records come back as they went, are written whole or not at all, and name what made them."""

import json
import shutil

import numpy as np
import pytest

from distil import config, records
from distil.records import RecordError, Step

SETTINGS = config.settings("smoke", "student", "sst2")
TEACHER = Step("teacher", "smoke", "sst2", "distilled")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Results and artifacts of the test's own, with a data record."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "ARTIFACTS", tmp_path / "artifacts")
    facts = {"dataset": "toy/sst2", "rows": {"train": 3}, "digests": {"train": "a", "dev": "b"}}
    Step("data", "smoke", "sst2").write({}, {}, {}, **facts)


def make(step=TEACHER, weights=b"weights", inputs=None):
    inputs = {"data/train": "a", "data/dev": "b"} if inputs is None else inputs
    with records.whole_folder(step.folder(SETTINGS, inputs)) as part:
        (part / "model.safetensors").write_bytes(weights)
    outputs = {
        "model.safetensors": records.sha256(step.folder(SETTINGS, inputs) / "model.safetensors")
    }
    logits = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    return step.write(SETTINGS, inputs, outputs, {"dev": (logits, logits.argmax(1))}, seconds=1.234)


def test_a_record_and_its_predictions_come_back():
    made, back = make(), TEACHER.read()
    assert back == json.loads(json.dumps(made)) and back["metrics"] == {"dev": {"accuracy": 1.0}}
    assert (back["dataset"], back["role"], back["seconds"]) == ("toy/sst2", "teacher", 1.2)
    logits, labels = TEACHER.predictions()["dev"]
    assert logits.shape == (9, 2) and labels.dtype == np.int64
    assert TEACHER.files() == TEACHER.finished()


def test_a_plain_student_is_the_baseline():
    assert make(Step("student", "smoke", "sst2", "plain"))["role"] == "student-baseline"


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_named(damage):
    make(weights=b"0123456789")
    path = TEACHER.files() / "model.safetensors"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"0123456788" if damage == "flip" else b"01234")
    with pytest.raises(RecordError, match=r"model.safetensors is missing or not as its step wrote"):
        TEACHER.files()


def test_a_write_that_fails_leaves_the_old_record(monkeypatch):
    make()
    old = TEACHER.path.read_bytes()
    monkeypatch.setattr(records.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        TEACHER.write(SETTINGS, {}, {})
    assert TEACHER.path.read_bytes() == old


def test_damaged_records_and_predictions_are_named():
    make()
    TEACHER.path.with_suffix(".npz").write_bytes(b"no archive")
    with pytest.raises(RecordError, match=r"teacher-seed0.npz is missing or damaged"):
        TEACHER.predictions()
    TEACHER.path.write_text("{")
    with pytest.raises(RecordError, match="damaged record"):
        TEACHER.read()
    TEACHER.path.unlink()
    with pytest.raises(RecordError, match="no record results/runs/smoke/sst2/distilled/teacher"):
        TEACHER.read()


def test_a_folder_is_named_by_settings_inputs_and_number_format():
    other = SETTINGS.model_copy(update={"epochs": 9})
    cases = [
        (SETTINGS, {}, ""),
        (other, {}, ""),
        (SETTINGS, {"a": "1"}, ""),
        (SETTINGS, {}, "bf16"),
    ]
    assert len({TEACHER.folder(*case) for case in cases}) == 4
    assert TEACHER.folder(*cases[0]) == TEACHER.folder(*cases[0])


def test_a_finished_folder_without_a_record_is_gone_on_from():
    make()
    with records.whole_folder(TEACHER.finished()) as part:
        assert (part / "model.safetensors").exists()
    assert TEACHER.files()


def test_no_path_of_a_machine_is_kept(tmp_path):
    settings = config.DataSettings(source=str(tmp_path / "GLUE"), max_train=0, max_dev=0)
    assert records.as_config(settings)["source"] == "GLUE"


def test_inputs_are_files_of_other_steps_and_of_the_user(tmp_path):
    make()
    step = Step("transfer-set", "smoke", "sst2", "no-mask")
    found = step.inputs(config.settings("smoke", "transfer-set", "sst2", "no-mask"))
    assert found["teacher/model.safetensors"] == TEACHER.read()["outputs"]["model.safetensors"]
    assert found["data/train"] == "a"
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("a 1 2")
    own = config.settings("smoke", "student", "sst2", "plain").model_copy(
        update={"vectors": str(vectors)}
    )
    plain = Step("student", "smoke", "sst2", "plain")
    before = plain.inputs(own)
    vectors.write_text("a 1 3")
    assert before.keys() == {"data/train", "data/dev", "vectors/vectors.txt"}
    assert before != plain.inputs(own)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of the code, and a function that replaces text in one of its files."""
    for name in ("distil", "notebooks"):
        shutil.copytree(
            config.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("toy", "__*")
        )
    monkeypatch.setattr(records, "ROOT", tmp_path)
    records.code.cache_clear()

    def edit(name, old, new):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        records.code.cache_clear()

    yield edit
    records.code.cache_clear()


def test_prose_and_comments_are_no_code_and_a_change_reaches_its_users_alone(clone):
    before = {stage: records.code(stage) for stage in records.NOTEBOOKS}
    clone("distil/augment.py", "MAX_NGRAM = 5", "MAX_NGRAM = 5  # words")
    clone("distil/augment.py", '"""', '"""A word of ours. ')
    clone("notebooks/03_transfer_set.ipynb", "The transfer set", "The set")
    assert {stage: records.code(stage) for stage in records.NOTEBOOKS} == before
    clone("distil/augment.py", "MAX_NGRAM = 5", "MAX_NGRAM = 6")
    changed = {stage for stage in before if records.code(stage) != before[stage]}
    assert {"transfer-set", "student"} <= changed and not changed & {"data", "teacher", "results"}
    assert "speed.fastbert" in records.code("teacher") and "packages" in records.code("data")
