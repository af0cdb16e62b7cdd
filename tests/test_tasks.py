"""A user's own tasks: README's example is read as it says, and a wrong description is one line that says what to change."""

import re
import subprocess
import sys

import pytest
import yaml

from distil import data, paths, tasks
from distil.data import DataError, load_task
from distil.tasks import PAPER, TaskError, own_tasks

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Your own task")[2].partition("\n## ")[0]
GOOD = {"text": ["message"], "label": "kind", "labels": ["ham", "spam"]}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """README's task and rows, in a folder laid out as README says."""
    description, rows = re.findall(r"```\w*\n(.*?)```", SECTION, re.DOTALL)[:2]
    own = own_tasks(yaml.safe_load(description))
    (name,) = own
    monkeypatch.setitem(tasks.TASKS, name, own[name])
    (tmp_path / name).mkdir()
    for split in ("train", "dev"):
        (tmp_path / name / f"{split}.tsv").write_text(rows, encoding="utf-8")
    return name, tmp_path, rows


def test_the_example_of_the_readme_is_read(example):
    name, folder, rows = example
    spec, splits = tasks.TASKS[name], load_task(name, str(folder))
    assert set(splits) == {"train", "dev"} and len(splits["train"]) == rows.count("\n") - 1 == 5
    assert splits["dev"].features["label"].names == list(spec.labels) and set(splits["dev"]["label"]) == {0, 1}
    assert data.dataset_name(name, str(folder), 5) == name and not spec.in_paper and not spec.pair
    (folder / name / "test.tsv").write_text(rows, encoding="utf-8")
    assert set(load_task(name, str(folder))) == {"train", "dev", "test"}


@pytest.mark.parametrize("source", ["hub", "packages"])
def test_nothing_but_a_folder_can_have_an_own_task(example, source):
    with pytest.raises(DataError, match=f"{source} has no task {example[0]!r}: set GLUE_DIR to the folder that holds"):
        load_task(example[0], source)


def test_a_pair_with_whole_numbers_as_labels():
    spec = own_tasks({"a-b": {"text": ["q", "a"], "label": "fits", "labels": [0, 1, 2], "f1": True}})["a-b"]
    assert spec.pair and spec.labels == ("0", "1", "2") and spec.columns == ("sentence1", "sentence2")
    assert not spec.f1  # it is of a positive class, and there are three
    assert own_tasks({"x": GOOD | {"f1": True}})["x"].f1


@pytest.mark.parametrize(
    ("described", "wanted"),
    [
        (["spam"], "must hold one 'name: {...}' a line"),
        ({"sst2": GOOD}, "none of sst2, qqp, mnli"),
        ({"../up": GOOD}, "small letters, digits and hyphens"),
        ({"$(touch x)": GOOD}, "small letters, digits and hyphens"),
        ({"spam": GOOD | {"colour": "red"}}, "wanted {text: [column], label: column"),
        ({"spam": {"text": ["message"]}}, "wanted {text: [column], label: column"),
        ({"spam": GOOD | {"text": "message"}}, "'text' lists one column or two"),
        ({"spam": GOOD | {"text": ["a", "b", "c"]}}, "'text' lists one column or two"),
        ({"spam": GOOD | {"labels": ["ham"]}}, "two at least"),
        ({"spam": GOOD | {"labels": yaml.safe_load("[yes, no]")}}, "YAML reads yes and no as true and false"),
    ],
)
def test_a_wrong_description_says_what_is_wanted(described, wanted):
    with pytest.raises(TaskError, match=re.escape(wanted)):
        own_tasks(described)


@pytest.mark.parametrize("text", ["spam: {text: [message]}", "spam: {text: [message"])
def test_every_command_says_it_in_one_line(tmp_path, text):
    program = (
        "import pathlib, sys; from distil import paths; paths.CONFIGS = pathlib.Path(sys.argv[1]); import distil.tasks"
    )
    (tmp_path / "tasks.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=paths.ROOT
    )
    assert (
        done.returncode == 1 and done.stderr.startswith("error: configs/tasks.yaml") and "Traceback" not in done.stderr
    )


def test_the_papers_tasks_come_first():
    assert list(tasks.TASKS)[:3] == list(PAPER) == ["sst2", "qqp", "mnli"]
