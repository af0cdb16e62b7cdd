"""What differs between SST-2, QQP and MNLI, and nothing else: columns, labels, splits, metrics (paper section 4.1)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """Where a split lives: ``file`` in the task's folder of GLUE's TSV layout, ``hub`` on the hub."""

    file: str
    hub: str


@dataclass(frozen=True)
class Task:
    """One GLUE task.

    Attributes:
        folder: name of its folder in GLUE's TSV layout.
        text: columns of the sentence or of the two sentences in the TSV files; ``hub_text`` the same on the hub.
        label: column of the label in the TSV files; ``labels`` lists its values in the hub's order, and an example's
            label is its position in that list; ``meanings`` says each in words.
        splits: our name of a split -> where it lives.
        glue_train_rows: rows of GLUE's whole training set, to tell it from a part of it.
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
TASKS: dict[str, Task] = {task.name: task for task in (SST2, QQP, MNLI)}
