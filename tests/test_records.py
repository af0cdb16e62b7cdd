"""Records come back as they went, are written whole or not at all, and name what made them."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from distil import config, records
from distil.records import RecordError, Step

SETTINGS = config.settings("smoke", "student", "sst2")
TEACHER = Step("teacher", "smoke", "sst2", "distilled")
FAR = "/home/someone/far"
LOGITS = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _data_record(home):
    facts = {"dataset": "toy/sst2", "rows": {"train": 3}, "digests": {"train": "a", "dev": "b"}}
    Step("data", "smoke", "sst2").write({}, {}, {}, **facts)


def make(step=TEACHER, settings=SETTINGS):
    inputs = {"data/train": "a", "data/dev": "b"}
    with records.whole_folder(step.folder(settings, inputs)) as part:
        (part / "model.safetensors").write_bytes(b"0123456789")
    digest = records.sha256(step.folder(settings, inputs) / "model.safetensors")
    splits = {"dev": (LOGITS, LOGITS.argmax(1)), "test": (LOGITS[:4], LOGITS[:4].argmin(1))}
    return step.write(settings, inputs, {"model.safetensors": digest}, splits, seconds=1.234)


def test_a_record_and_its_predictions_come_back_and_a_damaged_one_is_named():
    made, back = make(), TEACHER.read()
    assert back == json.loads(json.dumps(made))
    assert back["metrics"] == {"dev": {"accuracy": 1.0}, "test": {"accuracy": 0.0}}
    assert (back["dataset"], back["role"], back["seconds"]) == ("toy/sst2", "teacher", 1.2)
    assert back["code"] == records.code("teacher") and set(back["git"]) == {"commit", "dirty"}
    logits, labels = TEACHER.predictions()["dev"]
    assert np.array_equal(logits, LOGITS) and np.array_equal(labels, LOGITS.argmax(1))
    assert labels.dtype == np.int64 and set(TEACHER.predictions()) == {"dev", "test"}
    assert make(Step("student", "smoke", "sst2", "plain"))["role"] == "student-baseline"
    path = TEACHER.files() / "model.safetensors"
    for content in (b"0123456788", b"01234", None):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(RecordError, match=rf"{path.name} is missing or not as its step wrote"):
            TEACHER.files()
    TEACHER.path.with_suffix(".npz").write_bytes(b"no archive")
    with pytest.raises(RecordError, match=r"damaged record .*\) results/.*/teacher-seed0.npz"):
        TEACHER.predictions()
    TEACHER.path.write_text("{")
    with pytest.raises(RecordError, match="damaged record"):
        TEACHER.read()
    TEACHER.path.unlink()
    with pytest.raises(RecordError, match="no record results/runs/smoke/sst2/distilled/teacher"):
        TEACHER.read()


def test_a_folder_has_a_name_of_its_own_and_appears_whole():
    other = SETTINGS.model_copy(update={"epochs": 9})
    cases = [(SETTINGS, {}), (other, {}), (SETTINGS, {"a": "1"}), (SETTINGS, {}, "bf16")]
    assert len({TEACHER.folder(*case) for case in cases * 2}) == 4
    with pytest.raises(OSError), records.whole_folder(records.ARTIFACTS / "x") as part:
        (part / "half").write_text("made")
        raise OSError("disk full")
    assert not (records.ARTIFACTS / "x").exists() and (part / "half").exists()
    make()
    with records.whole_folder(TEACHER.finished()) as part:  # one without a record is gone on from
        assert (part / "model.safetensors").exists()
    assert TEACHER.files()


@pytest.mark.parametrize("last", [0, 1], ids=["in the predictions", "in the record"])
def test_a_write_that_is_killed_leaves_the_old_record(monkeypatch, last):
    make()
    old, replace, calls = TEACHER.path.read_bytes(), records.os.replace, []

    def killed(*names):
        calls.append(names)
        if len(calls) > last:
            raise KeyboardInterrupt
        replace(*names)

    monkeypatch.setattr(records.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make(settings=SETTINGS.model_copy(update={"epochs": 9}))
    assert TEACHER.path.read_bytes() == old and TEACHER.predictions() and TEACHER.files()
    assert str(calls[-1][1]).endswith(("npz", "json")[last])


@pytest.mark.parametrize("at", [f"{FAR}/GLUE", "~/far/GLUE", "../far/GLUE", f"pieces:{FAR}/GLUE"])
def test_no_path_of_the_machine_is_kept(home, at):
    make(settings=SETTINGS.model_copy(update={"vectors": at}))
    text, places = TEACHER.path.read_text(), ("far/", str(home), f"{Path.home()}/")
    assert 'GLUE"' in text and not [place for place in (*places, str(config.ROOT)) if place in text]
    assert records.as_config({"model": "someone/bert@1"}) == {"model": "someone/bert@1"}


def test_inputs_are_files_of_other_steps_and_of_the_user(tmp_path):
    make()
    step = Step("transfer-set", "smoke", "sst2", "no-mask")
    found = step.inputs(config.settings("smoke", "transfer-set", "sst2", "no-mask"))
    assert found["teacher/model.safetensors"] == TEACHER.read()["outputs"]["model.safetensors"]
    vectors, plain = tmp_path / "vectors.txt", Step("student", "smoke", "sst2", "plain")
    own = SETTINGS.model_copy(update={"vectors": str(vectors)})
    vectors.write_text("a 1 2")
    before = plain.inputs(own)
    vectors.write_text("a 1 3")
    assert before.keys() == {"data/train", "data/dev", "vectors/vectors.txt"}
    assert before != plain.inputs(own)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of the code, and a function that replaces text in one of its files."""
    for name in ("distil", "notebooks"):
        shutil.copytree(config.ROOT / name, tmp_path / name, ignore=lambda *_: {"toy"})
    monkeypatch.setattr(records, "ROOT", tmp_path)
    records.code.cache_clear()

    def edit(name, old, new):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    def changed():
        records.code.cache_clear()
        return [stage for stage in records.NOTEBOOKS if records.code(stage) != before[stage]]

    before = {stage: records.code(stage) for stage in records.NOTEBOOKS}
    yield edit, changed
    records.code.cache_clear()


def test_prose_is_no_code_and_a_change_reaches_the_stages_that_import_it_alone(clone):
    (edit, changed), folder = clone, TEACHER.folder({}, {})
    edit("distil/augment.py", "MAX_NGRAM = 5", "MAX_NGRAM = 5  # words")
    edit("distil/augment.py", '"""', '"""A word of ours. ')
    edit("distil/teacher.py", '    """', '    """A word of ours. ')
    edit("notebooks/03_transfer_set.ipynb", "The transfer set", "The set")
    edit("notebooks/03_transfer_set.ipynb", "n_iter = 10", "n_iter = 11")
    edit("distil/config.py", "ge=0", "ge=2")
    assert changed() == [] and TEACHER.folder({}, {}) == folder
    edit("distil/augment.py", "MAX_NGRAM = 5", "MAX_NGRAM = 6")
    assert changed() == ["transfer-set", "student"] and TEACHER.folder({}, {}) == folder
    edit("distil/speed/fastbert.py", "import torch\n", "import torch\n\nODD = 1\n")
    assert changed() == ["teacher", "transfer-set", "student", "speed"]
    assert TEACHER.folder({}, {}) != folder


def test_outputs_of_a_chapter_are_no_change_of_the_code_and_its_cells_are(clone, tmp_path):
    (edit, _), git = clone, ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    assert not records.provenance()["git"]["dirty"]
    edit("notebooks/02_teacher.ipynb", '"outputs": []', '"outputs": [ ]')
    edit("notebooks/04_student.ipynb", "The ", "A ")
    assert not records.provenance()["git"]["dirty"]
    edit("notebooks/02_teacher.ipynb", "import numpy as np", "import numpy")
    assert records.provenance()["git"]["dirty"]
