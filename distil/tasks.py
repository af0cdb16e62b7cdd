"""What differs between tasks, and nothing else: columns, labels, splits, metrics.

SST-2, QQP and MNLI (paper section 4.1), then the tasks that a user describes in ``configs/tasks.yaml``.
"""

import re
import sys
from dataclasses import dataclass
from typing import Any

import yaml

from distil import paths


class TaskError(ValueError):
    """A task in configs/tasks.yaml is not described as it must be; the message says what to change."""


@dataclass(frozen=True)
class Split:
    """Where a split lives: ``file`` in the task's folder of GLUE's TSV layout, ``hub`` on the hub."""

    file: str
    hub: str


@dataclass(frozen=True)
class Task:
    """One task, of GLUE or of a user's.

    Attributes:
        folder: name of its folder in GLUE's TSV layout.
        text: columns of the sentence or of the two sentences in the TSV files; ``hub_text`` the same on the hub.
        label: column of the label in the TSV files; ``labels`` lists its values in the hub's order, and an example's
            label is its position in that list; ``meanings`` says each in words.
        splits: our name of a split -> where it lives.
        glue_train_rows: rows of GLUE's whole training set, to tell it from a part of it; 0 for a task that is not in GLUE.
        f1: whether the paper reports F1 of the positive class beside accuracy.
        short_rows: how many rows without all columns are left out before it is an error: GLUE's own QQP file has a few.
    """

    name: str
    title: str
    folder: str
    text: tuple[str, ...]
    hub_text: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    meanings: tuple[str, ...]
    splits: dict[str, Split]
    glue_train_rows: int
    f1: bool = False
    short_rows: int = 0

    @property
    def pair(self) -> bool:
        """Whether an example is two sentences."""
        return len(self.text) == 2

    @property
    def in_paper(self) -> bool:
        """Whether the paper has numbers for it, and GLUE and the packages have data."""
        return self.glue_train_rows > 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The sentence columns that every loaded split has: ``sentence1`` and, for pairs, ``sentence2``."""
        return ("sentence1", "sentence2")[: len(self.text)]


_TRAIN, _DEV = Split("train.tsv", "train"), Split("dev.tsv", "validation")

SST2 = Task(
    "sst2",
    title="SST-2",
    folder="SST-2",
    text=("sentence",),
    hub_text=("sentence",),
    label="label",
    labels=("0", "1"),
    meanings=("negative", "positive"),
    splits={"train": _TRAIN, "dev": _DEV},
    glue_train_rows=67_349,
)
QQP = Task(
    "qqp",
    title="QQP",
    folder="QQP",
    text=("question1", "question2"),
    hub_text=("question1", "question2"),
    label="is_duplicate",
    labels=("0", "1"),
    meanings=("different", "duplicate"),
    splits={"train": _TRAIN, "dev": _DEV},
    glue_train_rows=363_846,
    f1=True,
    short_rows=10,
)
MNLI = Task(
    "mnli",
    title="MNLI",
    folder="MNLI",
    text=("sentence1", "sentence2"),
    hub_text=("premise", "hypothesis"),
    label="gold_label",
    labels=("entailment", "neutral", "contradiction"),
    meanings=("entailment", "neutral", "contradiction"),
    splits={
        "train": _TRAIN,
        "dev": Split("dev_matched.tsv", "validation_matched"),
        "dev_mismatched": Split("dev_mismatched.tsv", "validation_mismatched"),
    },
    glue_train_rows=392_702,
)
PAPER = {task.name: task for task in (SST2, QQP, MNLI)}


def own_tasks(described: Any) -> dict[str, Task]:
    """The tasks of configs/tasks.yaml: ``name: {text: [column], label: column, labels: [value, value]}``, ``f1: true`` if wanted.

    Such a task has a folder of its name with ``train.tsv``, ``dev.tsv`` and, if there is one, ``test.tsv``.

    Raises:
        TaskError: it is not described so, or its name is one of the paper's tasks or not fit for a file's name.
    """
    if not isinstance(described, dict):
        raise TaskError(f"configs/tasks.yaml must hold one 'name: {{...}}' a line, got {described!r}")
    return {name: _own_task(name, values) for name, values in described.items()}


def _own_task(name: Any, values: Any) -> Task:
    where = f"configs/tasks.yaml, {name}"
    if not re.fullmatch(r"[a-z][a-z0-9-]*", str(name)) or name in PAPER:
        raise TaskError(f"{where}: a name is small letters, digits and hyphens, and none of {', '.join(PAPER)}")
    if not isinstance(values, dict) or set(values) - {"f1"} != {"text", "label", "labels"}:
        raise TaskError(f"{where}: wanted {{text: [column], label: column, labels: [value, value]}}, got {values!r}")
    text, labels = values["text"], values["labels"]
    if not isinstance(text, list) or len(text) not in (1, 2) or not all(isinstance(column, str) for column in text):
        raise TaskError(f"{where}: 'text' lists one column or two, as in [sentence1, sentence2]; got {text!r}")
    if not isinstance(labels, list) or len(labels) < 2 or any(type(label) not in (str, int) for label in labels):
        raise TaskError(
            f"{where}: 'labels' lists the values of the label's column, two at least; got {labels!r} (YAML reads yes and no "
            'as true and false: write "yes", "no")'
        )
    labels = tuple(map(str, labels))
    splits = {"train": _TRAIN, "dev": _DEV, "test": Split("test.tsv", "test")}
    f1 = values.get("f1", False) is True and len(labels) == 2
    return Task(name, name, name, tuple(text), tuple(text), str(values["label"]), labels, labels, splits, 0, f1)


def _described() -> dict[str, Task]:
    path = paths.CONFIGS / "tasks.yaml"
    try:
        return own_tasks((path.exists() and yaml.safe_load(path.read_text(encoding="utf-8"))) or {})
    except yaml.YAMLError as error:
        raise TaskError(f"configs/tasks.yaml is not valid YAML: {error}") from None


try:
    TASKS: dict[str, Task] = PAPER | _described()
except TaskError as problem:  # every command reads this module: one line says what is wrong, not a traceback
    sys.exit(f"error: {problem}")
