"""The graph: what must run and why, on records that stand-ins write; then real processes."""

import json
import subprocess
import sys

import nbformat
import pytest

from distil import config, records, run
from distil.records import Step

TASKS = ["sst2", "qqp", "mnli"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for module in (records, run):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
        monkeypatch.setattr(module, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.delenv("GLUE_DIR", raising=False)
    return tmp_path


def pretend(step, content="1"):
    """Do as the step's chapter does: a folder with one file, then the record."""
    now = run.settings(step)
    inputs, outputs = step.inputs(now), {}
    if step.stage in ("data", *config.STAGES):
        with records.whole_folder(step.folder(now, inputs)) as part:
            (part / "made").write_text(content)
        outputs = {"made": records.sha256(step.folder(now, inputs) / "made")}
    facts = {"dataset": "toy", "rows": {}, "digests": {"train": content}}
    step.write(now, inputs, outputs, **(facts if step.stage == "data" else {}))


def pretend_all(graph):
    done = set()
    while len(done) < len(graph):
        for step, before in graph.items():
            if step not in done and before <= done:
                pretend(step)
                done.add(step)


@pytest.fixture
def smoke():
    """The whole graph of the smoke profile, done."""
    graph = run.graph("smoke", TASKS, [0], ablation=False)
    pretend_all(graph)
    return graph


def change(monkeypatch, task, stage, **values):
    """Change a setting of one task as an edit of the YAML file would."""
    old = config.profile("smoke")
    section = {stage: old["tasks"].get(task, {}).get(stage, {}) | values}
    tasks = old["tasks"] | {task: old["tasks"].get(task, {}) | section}
    monkeypatch.setattr(config, "profile", lambda name: old | {"tasks": tasks})


def names(plan):
    return sorted(step.name for step in plan)


def test_everything_runs_once_then_nothing():
    graph = run.graph("smoke", TASKS, [0, 1], ablation=False)
    assert set(run.plan(graph).values()) == {"no record"} and len(run.plan(graph)) == len(graph)
    pretend_all(graph)
    assert run.plan(graph) == {}


def test_the_order_of_the_graph():
    graph = run.graph("smoke", TASKS, [0], ablation=False)
    student = Step("student", "smoke", "mnli", "distilled")
    assert Step("transfer-set", "smoke", "mnli", "distilled") in graph[student]
    plain = Step("student", "smoke", "mnli", "plain")
    assert graph[plain] == {Step("data", "smoke", "mnli")}
    stages = [step.stage for step in graph]
    assert graph[Step("speed", "smoke")] == {
        s for s in graph if s.stage in ("data", *config.STAGES)
    }
    assert list(graph).index(plain) > list(graph).index(student) and stages[-2:] == [
        "results",
        "ablation",
    ]
    arms = {step.arm for step in run.graph("smoke", TASKS, [0], ablation=True)}
    assert arms == {"", *config.arms("smoke")}
    assert not any(s.task == "mnli" and s.arm == "kl" for s in run.graph("smoke", TASKS, [0], True))


def test_another_n_iter_names_that_set_its_students_the_report_and_no_other(smoke, monkeypatch):
    change(monkeypatch, "mnli", "transfer_set", n_iter=5)
    found = run.plan(smoke)
    assert names(found) == [
        "03_transfer_set mnli distilled seed 0",
        "04_student mnli distilled seed 0",
        "06_results",
        "07_ablation",
    ]
    assert found[Step("transfer-set", "smoke", "mnli", "distilled")] == "n_iter 4 -> 5"
    reason = found[Step("student", "smoke", "mnli", "distilled")]
    assert reason == "03_transfer_set mnli distilled seed 0 is rebuilt"


def test_a_teacher_with_other_weights_reaches_its_set_and_students(smoke):
    pretend(Step("teacher", "smoke", "qqp", "distilled"), content="2")
    found = run.plan(smoke)
    assert names(found)[:2] == [
        "03_transfer_set qqp distilled seed 0",
        "04_student qqp distilled seed 0",
    ]
    assert found[Step("transfer-set", "smoke", "qqp", "distilled")] == "teacher/made has changed"
    assert not any("plain" in name or "sst2" in name for name in names(found))


def test_files_of_the_user_that_change_reach_all_behind_them(home, monkeypatch):
    (home / "glue" / "SST-2").mkdir(parents=True)
    train = home / "glue" / "SST-2" / "train.tsv"
    train.write_text("1")
    monkeypatch.setenv("GLUE_DIR", str(home / "glue"))
    graph = run.graph("own", ["sst2"], [0], ablation=False)
    pretend_all(graph)
    assert run.plan(graph) == {}
    train.write_text("2")
    found = run.plan(graph)
    assert set(found) == set(graph)
    assert found[Step("data", "own", "sst2")] == "source/train.tsv has changed"
    monkeypatch.setenv("GLUE_DIR", str(home / "nowhere"))
    with pytest.raises(config.ConfigError, match=r"nowhere: no such folder; it holds SST-2/"):
        run.plan(graph)


def test_a_folder_that_is_gone_and_code_that_changed(smoke, monkeypatch):
    step = Step("student", "smoke", "sst2", "plain")
    (step.finished() / "made").unlink()
    step.finished().rmdir()
    assert "its folder artifacts/smoke/sst2/plain/student-seed0-" in run.plan(smoke)[step]
    code = records.code
    monkeypatch.setattr(
        records, "code", lambda stage: code(stage) | ({"train": "x"} if stage == "student" else {})
    )
    found = run.plan(smoke)
    assert {s.stage for s in found} == {"student", "speed", "results", "ablation"}
    assert found[Step("student", "smoke", "qqp", "plain")] == "code of train"


# --- real processes -------------------------------------------------------------------------------


@pytest.fixture
def chapters(home, monkeypatch):
    """A function that makes the chapter of every step a single cell."""

    def replace(source):
        path = home / "chapter.ipynb"
        cells = [nbformat.v4.new_code_cell(text) for text in ("profile = ''", source)]
        cells[0].metadata.tags = ["parameters"]
        nbformat.write(
            nbformat.v4.new_notebook(
                cells=cells,
                metadata={
                    "kernelspec": {"name": "python3", "display_name": "", "language": "python"}
                },
            ),
            path,
        )
        monkeypatch.setattr(Step, "notebook", path)

    return replace


def test_a_failed_step_leaves_the_old_record_and_names_its_cell(smoke, chapters, monkeypatch):
    step = Step("data", "smoke", "sst2")
    old = step.path.read_bytes()
    change(monkeypatch, "sst2", "data", max_train=7)
    chapters("1 / 0  # a fault")
    with pytest.raises(
        run.StepError, match=r"01_data sst2: cell In \[3\] \(1 / 0  # a fault\)"
    ) as caught:
        run.run_step(step)
    assert "ZeroDivisionError" in str(caught.value) and len(str(caught.value)) < 500
    assert step.path.read_bytes() == old
    chapters("pass")
    with pytest.raises(run.StepError, match="every cell ran, but none wrote results/data/smoke"):
        run.run_step(step)
    assert step.path.read_bytes() == old


def test_two_runs_at_once_do_not_run_one_step_twice(home):
    """Both are told to run the same step; one waits, and finds the record."""
    command = [
        sys.executable,
        "-m",
        "distil.run",
        "step",
        "data",
        "--profile",
        "smoke",
        "--task",
        "sst2",
    ]
    environment = {
        **run.os.environ,
        "DISTIL_RESULTS": str(home / "r"),
        "DISTIL_ARTIFACTS": str(home / "a"),
    }
    both = [
        subprocess.Popen(
            command, cwd=config.ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(text) > 0 for text in printed) == [False, True]
    record = json.loads((home / "r" / "data" / "smoke" / "sst2.json").read_text())
    assert record["rows"] == {"train": 240, "dev": 80}
    page = (home / "r" / "executed" / "smoke" / "sst2" / "01_data.ipynb").read_text()
    assert str(config.ROOT) not in page and str(home) not in page


@pytest.mark.parametrize(("words", "said"), [
    (["step", "data", "--profile", "nope", "--task", "sst2"], "unknown profile 'nope'"),
    (["step", "teacher", "--profile", "smoke", "--task", "x"], "unknown task 'x'"),
    (["step", "student", "--profile", "smoke", "--task", "sst2", "--arm", "x"], "unknown arm 'x'"),
    (["plan", "--profile", "smoke", "--tasks", "sst2 x"], "unknown task 'x'"),
])  # fmt: off
def test_a_wrong_name_is_one_line_and_status_2(words, said, capsys):
    assert run.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
