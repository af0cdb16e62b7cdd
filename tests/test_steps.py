"""One notebook as one step: what a failure tells, what a success leaves, what is refused before anything runs."""

import errno
import fcntl
import os
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from distil import config, execution, paths, steps

DATA_PARAMETERS = """\
profile = "smoke"  # folder of configs/
task = "sst2"  # task
seed = 0  # seed
source = "toy"  # source
max_train = 0  # rows
max_dev = 0  # rows"""
RUN = ["01_data", "--profile", "smoke", "--task", "sst2"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Folders of our own under ``tmp_path``; the configs stay the real ones."""
    for name in ("NOTEBOOKS", "RESULTS", "ARTIFACTS"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setattr(paths, name, folder)
    monkeypatch.delenv("GLUE_DIR", raising=False)
    return tmp_path


def write_notebook(name: str, *cells: str, parameters: str = DATA_PARAMETERS) -> Path:
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = new_notebook(
        cells=[new_markdown_cell("# Title"), first, *(new_code_cell(c) for c in cells)], metadata=metadata
    )
    path = paths.NOTEBOOKS / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def record_cell(task: str = "sst2", profile: str = "smoke") -> str:
    path = paths.data_record(profile, task)
    return f"import pathlib\np = pathlib.Path({str(path)!r})\np.parent.mkdir(parents=True)\np.write_text('{{}}')"


def step(notebook: str, profile: str = "smoke", **values) -> steps.Step:
    defaults = {"task": "", "role": "", "arm": "", "seed": 0, "teacher_seed": 0}
    return steps.Step(notebook, profile, **(defaults | values))


# --- running ----------------------------------------------------------------------------------------------------------


def test_failing_notebook_names_the_cell_and_keeps_its_copy(place, capfd):
    write_notebook("01_data", "x = 1", "raise ValueError('broken on purpose')", record_cell())
    assert steps.main([*RUN, "--seed", "3"]) == 1
    out, err = capfd.readouterr()
    assert out.startswith("== 01_data  smoke/sst2  seed 3\n")
    assert "01_data  smoke/sst2  seed 3 failed in cell 4 of notebooks/01_data.ipynb, In [4]: raise ValueError" in err
    assert "ValueError: broken on purpose" in err
    assert "Traceback" not in err
    kept = paths.ARTIFACTS / "smoke" / "failed" / "sst2-01_data.ipynb"
    assert str(kept) in err
    assert "broken on purpose" in kept.read_text()
    assert not any(paths.RESULTS.iterdir())


def test_success_moves_a_clean_copy(place, capfd, monkeypatch):
    monkeypatch.setenv("GLUE_DIR", str(place / "glue"))
    noise = f"import sys\nprint('read {place}/glue/SST-2 and {paths.ROOT}/x')\nprint('a', 'warning', file=sys.stderr)"
    write_notebook("01_data", noise, record_cell(profile="offline"))
    assert steps.main(["01_data", "--profile", "offline", "--task", "sst2"]) == 0
    out, err = capfd.readouterr()
    assert "a warning" in err  # live in the terminal
    assert "SST-2" in out
    copy = paths.RESULTS / "executed" / "offline" / "sst2" / "01_data.ipynb"
    text = copy.read_text()
    assert 'source = \\"packages\\"' in text  # injected
    assert "read $GLUE_DIR/SST-2 and ./x" in text
    assert not any(word in text for word in ("a warning", str(place), str(paths.ROOT), "papermill", "iopub"))
    assert not list(paths.ARTIFACTS.rglob("*.ipynb"))


def test_a_copy_that_shows_rows_of_glue_is_not_for_git():
    assert steps._home(step("02_teacher", "glue", task="sst2")) == paths.ARTIFACTS / "glue"
    assert steps._home(step("02_teacher", "offline", task="sst2")) == paths.RESULTS
    assert steps._home(step("06_results", "glue")) == paths.RESULTS


def test_only_the_chapters_as_they_are_to_be_read_are_for_git():
    main = step("04_student", "offline", task="sst2", role="student-distilled", seed=0)
    assert steps._home(main) == paths.RESULTS
    for other in (replace(main, seed=1), replace(main, arm="no-mask")):
        assert steps._home(other) == paths.ARTIFACTS / "offline"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import sys; sys.exit(0)", "SystemExit"),
        ("x = 1", "no record was written"),
        ("import os; os._exit(1)", "died"),
    ],
)
def test_a_notebook_that_ends_without_its_record_has_failed(place, capfd, cell, message):
    write_notebook("01_data", cell)
    assert steps.main(RUN) == 1
    err = capfd.readouterr().err
    assert message in err
    assert "cell 3 of notebooks/01_data.ipynb" in err


def test_report_page_keeps_its_outputs_in_place(place, monkeypatch):
    source = write_notebook("06_results", "print(6 * 7)", parameters='profile = "offline"  # folder of configs/')
    before = nbformat.read(source, as_version=4)
    assert steps.main(["06_results", "--profile", "offline"]) == 0
    assert nbformat.read(source, as_version=4) == before, "results elsewhere are not the page's"
    monkeypatch.setattr(paths, "ROOT", place)
    assert steps.main(["06_results", "--profile", "offline"]) == 0
    after = nbformat.read(source, as_version=4)
    assert [(c.id, c.source, c.metadata) for c in after.cells] == [(c.id, c.source, c.metadata) for c in before.cells]
    assert after.cells[2].outputs[0].text == "42\n"
    assert after.metadata == before.metadata
    copy = paths.RESULTS / "executed" / "offline" / "06_results.ipynb"
    assert copy.stat().st_mtime_ns >= source.stat().st_mtime_ns  # Make must not run it again


@pytest.mark.parametrize("changed", [False, True])
def test_a_record_is_as_old_as_its_end_unless_its_sources_changed_on_the_way(place, changed):
    """A page made meanwhile of older records must not pass for fresh; an edit made meanwhile must be seen."""
    path = paths.NOTEBOOKS / "01_data.ipynb"
    cell = record_cell() + (f"\nimport os; os.utime({str(path)!r})" if changed else "")
    source = write_notebook("01_data", "import time; time.sleep(1)", cell)
    os.utime(source, (0, 0))
    started = time.time()
    assert steps.main(RUN) == 0
    made = paths.data_record("smoke", "sst2").stat().st_mtime
    assert made < source.stat().st_mtime if changed else made > started + 1


def test_a_step_that_another_process_runs_is_left_to_it(place, capfd):
    write_notebook("01_data", record_cell())
    path = paths.ARTIFACTS / "smoke" / "executed" / "sst2-01_data.part.lock"
    path.parent.mkdir(parents=True)
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711")
        other.flush()
        assert steps.main(RUN) == 1
        assert "is being run by process 4711 in this folder: wait for it" in capfd.readouterr().err
        assert not any(paths.RESULTS.iterdir())
    assert steps.main(RUN) == 0  # the lock went with its holder


# --- refused before anything runs -------------------------------------------------------------------------------------


def test_parameter_that_the_notebook_does_not_declare(place, capfd):
    write_notebook("01_data", record_cell(), parameters=DATA_PARAMETERS.replace("max_dev", "dev_rows"))
    assert steps.main(RUN) == 2
    assert "01_data.ipynb does not declare ['max_dev']" in capfd.readouterr().err
    assert not any(paths.ARTIFACTS.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["01_data", "--profile", "nope", "--task", "sst2"], "unknown profile 'nope'"),
        (["06_results", "--profile", "nope"], "unknown profile 'nope'"),
        (["01_data", "--profile", "smoke", "--task", "cola"], "sst2, qqp, mnli"),
        (["04_student", "--profile", "smoke", "--task", "sst2"], "needs --role"),
        (
            ["04_student", "--profile", "smoke", "--task", "sst2", "--arm", "nope"],
            "real-only, half-labels, hard-labels",
        ),
    ],
)
def test_wrong_arguments_say_what_is_known(capfd, arguments, message):
    assert steps.main(arguments) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert message in err


def test_little_disk_space(place, capfd, monkeypatch):
    write_notebook("01_data", record_cell())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(steps.shutil, "disk_usage", lambda folder: usage(10**12, 10**12, 10**8))
    assert steps.main(RUN) == 1
    assert "only 0.1 GB free, wanted 2" in capfd.readouterr().err


def test_disk_that_fills_up_on_the_way(place, capfd, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_notebook("01_data", record_cell())
    monkeypatch.setattr(steps, "execute", full)
    assert steps.main(RUN) == 1
    assert "No space left on device. Free some space" in capfd.readouterr().err


# --- parameters -------------------------------------------------------------------------------------------------------


def test_glue_dir_replaces_the_hub_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glue").mkdir()
    monkeypatch.setenv("GLUE_DIR", "glue")
    assert steps.parameters(step("01_data", "glue", task="sst2"))["source"] == str((tmp_path / "glue").resolve())
    assert steps.parameters(step("01_data", "smoke", task="sst2"))["source"] == "toy"
    monkeypatch.setenv("GLUE_DIR", "elsewhere")
    with pytest.raises(config.ConfigError, match="GLUE_DIR=elsewhere: no such folder"):
        steps.parameters(step("01_data", "glue", task="sst2"))


def test_an_arm_changes_the_distilled_student():
    plain = steps.parameters(step("04_student", task="sst2", role="student-distilled"))
    arm = steps.parameters(step("04_student", task="sst2", role="student-distilled", arm="real-only"))
    assert {key: (plain[key], arm[key]) for key in plain if plain[key] != arm[key]} == {
        "arm": ("", "real-only"),
        "synthetic": (1.0, 0.0),
    }


def test_an_arm_remakes_what_follows_its_stage():
    def values(notebook, **names):
        return steps.parameters(step(notebook, **names))

    masked = values("03_transfer_set", task="sst2", arm="no-mask")
    assert (masked["teacher_arm"], masked["p_mask"], masked["p_pos"]) == ("", 0.0, 0.1)
    student = values("04_student", task="sst2", role="student-distilled", arm="no-mask")
    assert (student["transfer_arm"], student["synthetic"]) == ("no-mask", 1.0)
    assert values("02_teacher", task="mnli", arm="separate")["pair_input"] == "separate"
    assert values("03_transfer_set", task="mnli", arm="separate")["teacher_arm"] == "separate"
    assert values("04_student", task="mnli", role="student-distilled", arm="separate")["transfer_arm"] == "separate"
    assert values("04_student", task="sst2", role="student-distilled", arm="kl")["transfer_arm"] == ""


def test_an_arm_of_another_task_is_refused():
    with pytest.raises(config.ConfigError, match="arm 'separate' is for task mnli, got 'sst2'"):
        steps.parameters(step("02_teacher", task="sst2", arm="separate"))


@pytest.mark.parametrize(
    ("notebook", "values", "name"),
    [
        ("01_data", {"task": "sst2"}, "01_data"),
        ("02_teacher", {"task": "sst2"}, "02_teacher-seed0"),
        ("03_transfer_set", {"task": "sst2", "seed": 1}, "03_transfer-set-seed1"),
        ("03_transfer_set", {"task": "sst2", "arm": "no-pos"}, "03_no-pos-transfer-set-seed0"),
        ("04_student", {"task": "sst2", "role": "student-baseline"}, "04_student-baseline-seed0"),
        ("04_student", {"task": "sst2", "role": "student-distilled", "arm": "real-only"}, "04_real-only-seed0"),
        ("05_speed", {}, "05_speed"),
        ("06_results", {}, "06_results"),
    ],
)
def test_names_of_executed_copies(notebook, values, name):
    assert step(notebook, **values).name == name


# --- cleaning ---------------------------------------------------------------------------------------------------------


def test_scrub_leaves_pictures_alone_and_no_path_anywhere(monkeypatch):
    root = str(paths.ROOT)
    data = {"image/png": f"iVBOR{root}/=", "text/html": f"<a href='file://{root}/a.html'>{root}</a>"}
    cell = new_code_cell(f"folder = {root!r}", metadata={"tags": [], "papermill": {"duration": 1}, "execution": {}})
    cell.outputs = [
        new_output("display_data", data),
        new_output("stream", name="stderr", text="50%"),
        new_output("stream", text=f"{Path.home()}/x {root}-other"),
    ]
    notebook = execution.scrub(new_notebook(cells=[cell], metadata={"papermill": {"input_path": root}}))
    assert notebook.metadata == {}
    assert cell.metadata == {}
    assert cell.source == "folder = '.'"
    assert cell.outputs[0].data == {"image/png": data["image/png"], "text/html": "<a href='file://./a.html'>.</a>"}
    assert cell.outputs[1].text.startswith("~/x ")
    assert len(cell.outputs) == 2
