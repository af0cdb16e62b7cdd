"""The graph: what must run and why, on records that stand-ins write; then real processes."""

import io
import shutil
import subprocess
import sys

import nbformat
import outputs
import pytest

from distil import config, records, run
from distil.records import Step

TASKS = ["sst2", "qqp", "mnli"]
WORK = ("data", *config.STAGES)
LAST = ["06_results", "07_ablation"]
pytestmark = pytest.mark.usefixtures("home")


def pretend(step, content="1"):
    """Do as the step's chapter does: a folder with one file, then the record."""
    now = run.settings(step)
    inputs, outputs = step.inputs(now), {}
    if step.stage in WORK:
        with records.whole_folder(step.folder(now, inputs)) as part:
            (part / "made").write_text(content)
        outputs = {"made": records.sha256(step.folder(now, inputs) / "made")}
    facts = {"dataset": "toy", "rows": {}, "digests": {"train": content}}
    step.write(now, inputs, outputs, **(facts if step.stage == "data" else {}))


def pretend_all(graph):
    for step in sorted(graph, key=lambda step: [*records.NOTEBOOKS].index(step.stage)):
        pretend(step)


@pytest.fixture
def smoke(home, monkeypatch):
    """The whole graph of the smoke profile with one quick arm, done."""
    ablation = config.Ablation(seeds=[0], quick=["real-only"])
    options = config.profile("smoke").model_copy(update={"ablation": ablation})
    monkeypatch.setattr(config, "profile", lambda name: options)
    graph = run.graph("smoke", TASKS, [0], ablation=False)
    pretend_all(graph)
    return graph


def change(monkeypatch, task, stage, **values):
    """Change a setting of one task as an edit of the YAML file would."""
    old = config.profile("smoke")
    section = {stage: old.tasks.get(task, {}).get(stage, {}) | values}
    update = {"tasks": old.tasks | {task: old.tasks.get(task, {}) | section}}
    monkeypatch.setattr(config, "profile", lambda name: old.model_copy(update=update))


def names(steps):
    return [step.name for step in steps]


def test_the_order_of_the_graph_and_an_arm_for_one_task(configs):
    graph = run.graph("smoke", TASKS, [0], ablation=True)
    for step, before in graph.items():
        stages = {one.stage for one in before}
        if step.stage == "student":
            assert stages == ({"data"} if step.arm == "plain" else {"data", "transfer-set"})
            assert before <= set(graph) and {one.task for one in before} == {step.task}
        if step.stage == "transfer-set":
            assert stages == {"data", "teacher"}
    assert graph[speed := Step("speed", "smoke")] == {one for one in graph if one.stage in WORK}
    assert graph[Step("results", "smoke")] == {*graph[speed], speed}
    assert {step.arm for step in graph} == {"", *config.profile("smoke").arms}
    arm = "arms: {odd: {tasks: [mnli], transfer_set: {n_iter: 2}}}"
    configs("mine", f"{arm}\nablation: {{quick: [odd]}}")
    graph = run.graph("mine", TASKS, [0], ablation=False)
    odd, student = (Step(s, "mine", "mnli", "odd") for s in ("transfer-set", "student"))
    assert {step for step in graph if step.arm == "odd"} == {odd, student}
    assert graph[student] == {odd, Step("data", "mine", "mnli")}
    assert Step("teacher", "mine", "mnli", "distilled") in graph[odd]


def test_another_setting_or_other_weights_name_what_is_behind_them_and_no_other(smoke, monkeypatch):
    def chain(task):
        return [f"{step} {task} distilled seed 0" for step in ("03_transfer_set", "04_student")]

    change(monkeypatch, "mnli", "transfer_set", n_iter=5)
    assert names(found := run.plan(smoke)) == [*chain("mnli"), *LAST]
    assert list(found.values())[:2] == ["n_iter 4 -> 5", f"{chain('mnli')[0]} is rebuilt"]
    change(monkeypatch, "mnli", "transfer_set", n_iter=4)
    change(monkeypatch, "sst2", "transfer_set", n_iter=5)
    rest = ["04_student sst2 real-only seed 0", "05_speed", *LAST]
    assert names(run.plan(smoke)) == [*chain("sst2"), *rest]
    change(monkeypatch, "sst2", "transfer_set", n_iter=4)
    pretend(Step("teacher", "smoke", "qqp", "distilled"), content="2")
    assert names(found := run.plan(smoke)) == [*chain("qqp"), *LAST]
    assert next(iter(found.values())) == "teacher/made has changed"


def test_files_of_the_user_that_change_reach_all_behind_them(home, monkeypatch):
    train = home / "glue" / "SST-2" / "train.tsv"
    train.parent.mkdir(parents=True)
    train.write_text("1")
    monkeypatch.setenv("GLUE_DIR", str(home / "glue"))
    graph = run.graph("own", ["sst2"], [0], ablation=False)
    pretend_all(graph)
    assert run.plan(graph) == {}
    train.write_text("2")
    assert set(found := run.plan(graph)) == set(graph)
    assert found[Step("data", "own", "sst2")] == "source/train.tsv has changed"
    monkeypatch.setenv("GLUE_DIR", str(home / "nowhere"))
    with pytest.raises(config.ConfigError, match=r"nowhere: no such folder; it holds SST-2/"):
        run.plan(graph)


def test_a_folder_that_is_gone_code_that_changed_and_earlier_folders(smoke, monkeypatch):
    first, tenth = (Step("student", "smoke", "qqp", "plain", seed) for seed in (1, 10))
    pretend(first)
    pretend(tenth)
    old = first.finished()
    step, code = Step("student", "smoke", "sst2", "plain"), records.code
    shutil.rmtree(step.finished())
    assert names(found := run.plan(smoke)) == [step.name, *LAST]
    assert found[step].startswith("its folder artifacts/smoke/sst2/plain/student-seed0-")
    with monkeypatch.context() as edit:
        edit.setattr(records, "code", lambda s: code(s) | {"student": {"train": 1}}.get(s, {}))
        found = run.plan(smoke)
    assert {step.stage for step in found} == {"student", "speed", "results", "ablation"}
    assert found[Step("student", "smoke", "qqp", "plain")] == "code of train"
    change(monkeypatch, "qqp", "student", lr=0.5)
    monkeypatch.setattr(run, "_execute", pretend)
    assert run.run_step(first).startswith("lr ")  # and folders of other seeds stay
    assert first.files() and not old.exists() and list(old.parent.glob("student-seed10-*"))


def schedule(graph, monkeypatch, jobs, fails=None):
    """Run the graph with processes that only pretend; return the status and steps as they start."""
    order, alive = [], set()

    class Process:
        returncode, polls = None, 0

        def __init__(self, step, *_):
            self.step = step
            order.append((step, frozenset(alive)))
            alive.add(step)

        def poll(self):
            self.polls += 1
            if self.polls > 5 * (self.step.stage == "teacher"):  # a teacher takes longer
                self.returncode = int(self.step == fails)
                alive.discard(self.step)
                self.returncode or pretend(self.step)
            return self.returncode

    monkeypatch.setattr(run, "_start", Process)
    monkeypatch.setattr(run, "_last_line", lambda _: "")
    monkeypatch.setattr(run.time, "sleep", lambda _: None)
    return run.reproduce(graph, jobs), order


def test_each_step_runs_once_beside_others_when_what_it_reads_is_there(monkeypatch):
    """After a failure no further step starts, and the next run goes on."""
    graph = run.graph("smoke", TASKS, [0], ablation=False)
    assert run.plan(graph) == dict.fromkeys(graph, "no record")
    status, order = schedule(graph, monkeypatch, 2, fails=(bad := Step("data", "smoke", "mnli")))
    done = {step for step, _ in order} - {bad}  # a teacher runs beside the one that fails
    assert status == 1 and sorted(step.stage for step in done) == ["data", "data", "teacher"]
    status, order = schedule(graph, monkeypatch, jobs=2)
    assert status == 0 and {step for step, _ in order} == set(graph) - done
    graph = run.graph("smoke", TASKS, [0, 1], ablation=False)
    shutil.rmtree(run.RESULTS)
    status, order = schedule(graph, monkeypatch, jobs=2)
    assert (status, len(order), run.plan(graph)) == (0, len(graph), {})
    for place, (step, beside) in enumerate(order):
        assert graph[step] <= {one for one, _ in order[:place]} - beside
        assert len(beside) < 2 and "speed" not in {one.stage for one in beside}
    assert any(beside for _, beside in order)


def test_a_failed_step_leaves_the_old_record_and_names_its_cell(home, smoke, monkeypatch, capsys):
    def replace_chapter(source):
        cells = [nbformat.v4.new_code_cell(text) for text in ("profile = ''", source)]
        cells[0].metadata.tags, names = ["parameters"], {"language_info": {"name": "python"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=names)
        nbformat.write(notebook, home / "chapter.ipynb")

    step = Step("data", "smoke", "sst2")
    old = step.path.read_bytes()
    monkeypatch.setattr(Step, "notebook", home / "chapter.ipynb")
    change(monkeypatch, "sst2", "data", max_train=7)
    replace_chapter("1 / 0  # a fault")
    assert run.main(["step", "data", "--profile", "smoke", "--task", "sst2"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: 01_data sst2: cell In [3] (1 / 0  # a fault) stopped with Zero")
    replace_chapter("pass")
    with pytest.raises(run.StepError, match="every cell ran, but none wrote results/data/smoke"):
        run.run_step(step)
    assert len(said) <= 500 and step.path.read_bytes() == old


def test_outside_a_clone_one_line_says_where_to_run(tmp_path, monkeypatch):
    shutil.copytree(config.ROOT / "distil", tmp_path / "distil")
    (tmp_path / "filelock.py").write_text("raise ImportError")  # a student's user has no filelock
    command = [sys.executable, "-m", "distil.run", "plan"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: run me in a clone")
    assert done.stderr.count("\n") == 1
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw := io.BytesIO(), "ascii"))
    monkeypatch.setattr(run, "_command", lambda _: print("caf\u00e9", flush=True))
    run.main(["plan"])
    assert raw.getvalue() == b"caf?\n"  # characters that a terminal lacks are replaced


def test_what_cannot_be_had_is_said_before_the_first_step(smoke, monkeypatch):
    change(monkeypatch, "sst2", "student", vectors=["random:8", "/gone/v"])
    monkeypatch.setattr(run, "_start", None)
    with pytest.raises(run.StepError, match="vectors '/gone/v' cannot be loaded; check"):
        run.reproduce(run.graph("smoke", ["sst2"], [0], False), 1)


def test_two_runs_at_once_do_not_run_one_step_twice(home):
    command = [sys.executable, "-m", "distil.run", "step", "data", "--profile=smoke", "--task=sst2"]
    places = {"DISTIL_RESULTS": str(home / "r"), "DISTIL_ARTIFACTS": str(home / "a")}
    options = {"cwd": config.ROOT, "env": run.os.environ | places, "stdout": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, **options) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(text) > 0 for text in printed) == [False, True]
    assert (home / "r/data/smoke/sst2.json").exists()


@pytest.fixture
def executed(home, monkeypatch):
    """Return a function that publishes a chapter with one output, and what its record says."""

    def publish(step, text):
        output = nbformat.v4.new_output("stream", text=text)
        cells = [nbformat.v4.new_code_cell("1", outputs=[output], id="one", execution_count=3)]
        names = {"language_info": {"name": "x"}, "kernelspec": {"name": "x", "display_name": "x"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=names | {"papermill": {}})
        run._publish(step, notebook)

    monkeypatch.setattr(Step, "read", lambda _: {"git": {"commit": "c0ffee", "dirty": False}})
    monkeypatch.setattr(run, "ROOT", home)
    monkeypatch.setenv("GLUE_DIR", "/far/glue")
    monkeypatch.setenv("HOME", str(home.parent))  # the folder that holds all others
    return publish


def test_a_copy_has_no_path_of_the_machine_and_its_outputs_reach_the_chapter(home, executed):
    """Outputs, their count and the commit come from the run; sources and other cells stay."""
    step, other = (Step("teacher", "offline", "sst2", "distilled", seed) for seed in (0, 1))
    places = [run.ARTIFACTS, run.RESULTS, home, home.parent, "/far/glue"]
    executed(step, "\n".join(f"{place}/x" for place in places))
    executed(other, "seed 1")
    assert run._kept(step).is_relative_to(run.RESULTS) and run._kept(other).exists()
    cells = [nbformat.v4.new_code_cell(source, id=source) for source in ("one", "two")]
    own = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(own, home / "chapter.ipynb")
    outputs.show(run._kept(step), home / "chapter.ipynb")
    page = nbformat.read(home / "chapter.ipynb", as_version=4)
    assert [cell.source for cell in page.cells] == ["one", "two"] and not page.cells[1].outputs
    (output,), ran = page.cells[0].outputs, {"distil": {"commit": "c0ffee", "dirty": False}}
    assert output.text.split("/x") == ["artifacts", "\nresults", "\n.", "\n~", "\n$GLUE_DIR", ""]
    assert (page.cells[0].execution_count, page.metadata) == (3, own.metadata | ran)


def test_the_gpus_are_those_that_the_user_lets_see(monkeypatch):
    monkeypatch.setattr(run.Path, "glob", lambda *_: ["/dev/nvidia0"])
    for visible, wanted in (("", []), ("3,5", ["3", "5"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert run._gpus() == wanted


WRONG = {
    "step data --profile nope --task sst2": "error: unknown profile 'nope'",
    "step teacher --profile smoke --task x": "error: unknown task 'x'",
    "step student --profile smoke --task mnli --arm kl": "error: arm 'kl' is for sst2, got 'mnli'",
    "reproduce --profile smoke --tasks sst2,x": "error: unknown task 'sst2,x'",
    f"plan --tasks {'x' * 999}": "error: unknown task 'xxx",
}
EMPTY = ["plan --seeds x", "plan --seeds=", "plan --tasks=", "reproduce --jobs -1"]
WRONG |= dict.fromkeys(["step nope", "step results --profile nope", *EMPTY], "")


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_name_or_option_is_one_line_and_status_2(words, capsys, monkeypatch):
    for name in ("_start", "_execute"):
        monkeypatch.setattr(run, name, lambda *_: pytest.fail("nothing may start"))
    try:
        status = run.main(words.split())
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1) and error.startswith(WRONG[words])
    assert len(error) <= 500
