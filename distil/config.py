"""Settings, tasks and arms: reads configs/ and checks types and ranges before a step starts.

``configs/paper.yaml`` holds every setting. Another profile holds only what differs from it.
An arm is a variant of the method (``distilled``, ``plain``, ``no-mask``): it changes settings from
some stage on and shares the stages before that one with the main arm.
"""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

ROOT = Path(__file__).resolve().parent.parent
CONFIGS, TOY = ROOT / "configs", ROOT / "distil" / "toy"
MAIN, PLAIN = "distilled", "plain"  # the full method, and the student that sees gold labels alone
STAGES = ("teacher", "transfer-set", "student")  # in the order of the method
NAME, HUB = "[a-z0-9][a-z0-9-]*", r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})"

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
TimedModel = Literal[
    *("bert-large", "bert-base", "minilm", "mpnet", "tiny", "elmo", "student"),
    *("student-fast", "student-bf16", "student-int8", "student-onnx", "student-onnx-int8"),
]
Precision = Literal["auto", "bfloat16", "float32"]
Section = dict[str, Any]  # changed settings, which are checked when they are put over the others
TaskName = Annotated[str, AfterValidator(lambda name: task(name).name)]
Model = TypeVar("Model", bound="Checked")


class ConfigError(ValueError):
    """A setting or a name is wrong; the message says where, what was wanted and what came."""


class Checked(BaseModel):
    """A model whose fields have exactly the declared types, and no others."""

    model_config = ConfigDict(strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        _known("key", values if isinstance(values, dict) else (), cls.model_fields, "this section")
        return values

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings among ``values``, such as the ``globals()`` of a notebook, checked."""
        return checked(cls, {name: values[name] for name in cls.model_fields}, "parameters")


class DataSettings(Checked):
    """What chapter 01 prepares; ``max_train`` and ``max_dev`` cut a split after a shuffle."""

    source: str
    max_train: Whole
    max_dev: Whole


class TeacherSettings(Checked):
    """Fine-tuning of the teacher (paper sections 3.1 and 4.2)."""

    model: str
    learning_rates: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    epochs: Count
    batch_size: Count
    max_length: Count
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0)]
    evals_per_epoch: Count
    precision: Precision


class TransferSettings(Checked):
    """The three rules of section 3.3, and the labelling by the teacher."""

    n_iter: Whole
    n_trigram: Whole
    p_mask: Share
    p_pos: Share
    p_ng: Share
    tagger: Literal["toy", "packages", "nltk"]
    token_budget: Count
    precision: Precision

    @model_validator(mode="after")
    def _one_draw_decides_both(self) -> Self:
        if self.p_mask + self.p_pos > 1:
            raise ValueError("p_mask + p_pos must not exceed 1: one uniform draw decides both")
        return self


class StudentSettings(Checked):
    """The BiLSTM (section 3.1), its objective (3.2) and its training (4.2)."""

    vectors: str | Annotated[list[str], Field(min_length=1)]  # one source, or several side by side
    extra_words: Whole
    channels: Literal["random", "static", "tuned", "multichannel"]
    hidden_size: Count
    fc_size: Count
    pooling: Literal["last", "attention"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    objective: Literal["mse", "kl"]
    temperature: Annotated[float, Field(gt=0)]
    alpha: Share
    synthetic: Share
    held_out: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    patience: Whole
    batch_size: Count
    lr: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "linear"]
    rho: Annotated[float, Field(gt=0, lt=1)]


class SpeedSettings(Checked):
    """Table 2: how many sentences are timed, in which batches, and for which models."""

    sentences: Count
    large_sentences: Count
    single_sentences: Count
    batch_size: Count
    batch_sizes: list[Count]
    repeats: Count
    models: Annotated[list[TimedModel], Field(min_length=1)]


class Task(Checked):
    """One task: its columns, labels, splits and metrics."""

    name: str
    title: str
    folder: str  # in GLUE's layout
    text: Annotated[list[str], Field(min_length=1, max_length=2)]  # the columns of its texts
    hub_text: list[str] = []  # their names on the hub, where they differ
    label: str  # the column of its labels
    labels: Annotated[list[str], Field(min_length=2, max_length=1000)] = []  # none: those of train
    meanings: list[str]  # of the labels, in words
    splits: dict[str, dict[Literal["file", "hub"], str]] = {}  # of GLUE: in ``folder``, on the hub
    data: str = ""  # the user's file, folder or set of the hub
    glue_train_rows: int = 0  # of GLUE's whole training set; above 0, the task is the paper's
    f1: str = ""  # the label whose F1 is scored, if any
    short_rows: int = 0  # so many rows without all columns are skipped: GLUE's own QQP has a few

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if len({*self.labels}) < len(self.labels) or len(self.meanings) != len(self.labels):
            raise ValueError("wanted each label once, and one of meanings for each of labels")
        if self.f1 and self.labels and self.f1 not in self.labels:
            raise ValueError(f"f1 names the label whose F1 is wanted, one of {self.labels!s:.200}")
        return self

    def known(self, labels: list[str]) -> "Task":
        """Return the task with its labels; those of its data, if the task names none."""
        found = {"labels": labels, "meanings": labels}
        return self if self.labels else checked(Task, self.model_dump() | found, self.name)

    @property
    def positive(self) -> int | None:
        """The class whose F1 is scored, if any."""
        return self.labels.index(self.f1) if self.f1 else None

    @property
    def pair(self) -> bool:
        """Whether an example is two sentences."""
        return len(self.text) == 2

    @property
    def in_paper(self) -> bool:
        """Whether the paper reports this task."""
        return self.glue_train_rows > 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The sentence columns of a loaded split: ``sentence1`` and, for pairs, ``sentence2``."""
        return ("sentence1", "sentence2")[: len(self.text)]


class Arm(Checked):
    """A variant of the method: the settings that it changes, by section."""

    tasks: list[TaskName] = []  # none: every task
    against: str = MAIN  # the arm that it is compared with
    teacher: Section = {}
    transfer_set: Section = {}
    student: Section = {}

    @property
    def changes(self) -> dict[str, Section]:
        """The changed settings of each section that the arm changes."""
        return self.model_dump(exclude={"tasks", "against"}, exclude_defaults=True)


class Ablation(Checked):
    """The seeds of each arm, and the ``quick`` arms that ``make reproduce`` runs with one seed."""

    seeds: Annotated[list[Whole], Field(min_length=1)]
    quick: list[str]


class Profile(Checked):
    """All that a profile says; a task and an arm change values of the sections."""

    data: DataSettings
    teacher: TeacherSettings
    transfer_set: TransferSettings
    student: StudentSettings
    speed: SpeedSettings
    tasks: dict[TaskName, dict[Literal["data", "teacher", "transfer_set", "student"], Section]]
    arms: dict[Annotated[str, Field(pattern=f"^{NAME}$")], Arm]
    ablation: Ablation


class _Loader(yaml.SafeLoader):
    """YAML that reads ``2e-5`` as a number, as YAML 1.2 does, and takes each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"the key {twice[0]!r} twice, from line {line}")
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def _read(name: str) -> Section:
    """Return what a file of ``configs/`` says."""
    try:
        found = yaml.load((CONFIGS / name).read_text(encoding="utf-8"), _Loader) or {}
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"configs/{name} is not valid YAML: {said}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"configs/{name} must hold 'key: value' lines, got {found!r:.80}")
    return found


def checked(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Return the model of ``values``, or raise a ConfigError of one line that begins with ``where``."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "str") or model.__name__
        hint = "; write it in quotes" if first["type"] == "string_type" else ""
        came = f", got {first['input']!r:.80}" if first["type"] != "missing" else ""
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {key}: {said}{came}{hint}"[:500]) from None


def _known(kind: str, names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise a ConfigError if one of the names is not among the known ones."""
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown {kind} {name!r}: {where} has {', '.join(known)}")


@functools.cache
def tasks() -> dict[str, Task]:
    """Return the tasks of ``configs/tasks.yaml`` by name, then the one of DATA, TEXT and LABEL."""
    found, listed = {}, [*_read("tasks.yaml").items()]
    data, text, label = (os.environ.get(name) for name in ("DATA", "TEXT", "LABEL"))
    if data and text and label:
        own = {"data": data, "text": text.split(), "label": label}
        listed.append((os.environ.get("TASKS", "mine"), own))
    for name, values in listed:
        where = f"configs/tasks.yaml{' and TASKS' * bool(data)}, {name}"
        if name in found or not re.fullmatch(NAME, str(name)) or not isinstance(values, dict):
            raise ConfigError(
                f"{where}: wanted 'name: {{data: file, text: [column], label: column}}', or TASKS with "
                f"one new name, of small letters, digits and hyphens, got {values!r:.80}"
            )
        filled = {"name": name, "title": name, "folder": name} | values
        filled = {"meanings": filled.get("labels", [])} | filled
        if (path := str(filled.get("data", ""))) and not re.fullmatch(HUB, path):
            filled["data"] = str((ROOT / Path(path).expanduser()).resolve())
        found[name] = checked(Task, filled, where)
    return found


def task(name: str) -> Task:
    """Return one task; a ConfigError lists the known ones."""
    _known("task", [name], tasks(), "configs/tasks.yaml (DATA=, TEXT= and LABEL= add one)")
    return tasks()[name]


@functools.cache
def profile(name: str) -> Profile:
    """Return a profile: ``paper.yaml`` with the profile's own values put over it."""
    files = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "tasks")
    _known("profile", [name], files, "configs/")
    where, values = f"configs/{name}.yaml", _over(_read("paper.yaml"), _read(f"{name}.yaml"))
    found = checked(Profile, values, where)
    named = [*found.ablation.quick, *(arm.against for arm in found.arms.values())]
    _known("arm of ablation.quick or against", named, found.arms, where)
    return found


def _over(base: Any, changes: Any) -> Any:
    """Return ``base`` with ``changes`` put over it, mapping by mapping."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _over(base.get(key), value) for key, value in changes.items()}


def arm(profile_name: str, name: str, task_name: str = "") -> Arm:
    """Return one arm; a ConfigError if it is unknown or not meant for the task."""
    arms = profile(profile_name).arms
    _known("arm", [name], arms, f"configs/{profile_name}.yaml")
    found = arms[name]
    if task_name and found.tasks and task_name not in found.tasks:
        raise ConfigError(f"arm {name!r} is for {', '.join(found.tasks)}, got {task_name!r}")
    return found


def made_by(profile_name: str, arm_name: str, stage: str) -> str:
    """Return the arm that made the ``stage`` of an arm: itself, or ``distilled`` before it changes."""
    changes = arm(profile_name, arm_name).changes
    until = STAGES[: STAGES.index(stage) + 1]
    return arm_name if any(name.replace("-", "_") in changes for name in until) else MAIN


def settings(profile_name: str, stage: str, task_name: str = "", arm_name: str = MAIN) -> Any:
    """Return the settings of one step: the profile's, then its task's, then its arm's."""
    section, values = stage.replace("-", "_"), profile(profile_name)
    own = {"source": task(task_name).data} if section == "data" and task_name else {}
    own = {key: value for key, value in own.items() if value}
    if own and not re.fullmatch(HUB, own["source"]) and not Path(own["source"]).exists():
        gone, hub = f"no file or folder {own['source']}", "user/name@<commit, 40 digits>"
        raise ConfigError(f"data of task {task_name}: {gone}; a set of the hub is {hub}")
    of_task = values.tasks.get(task_name, {}).get(section, {}) | own
    of_arm = arm(profile_name, arm_name, task_name).changes.get(section, {})
    base = getattr(values, section)
    where, found = f"configs/{profile_name}.yaml, {section}", dict(base) | of_task | of_arm
    return checked(type(base), found, where)


def departures(profile_name: str) -> list[str]:
    """Return a line for each setting that is not the paper's; arms, ablation and speed left out."""
    paper = dict(_leaves(_read("paper.yaml")))
    return [
        f"{key}: {value} (paper.yaml: {paper.get(key, 'not set')})"
        for key, value in _leaves(profile(profile_name).model_dump())
        if value != paper.get(key) and not key.startswith(("arms.", "ablation.", "speed."))
    ]


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings with its dotted key."""
    if not isinstance(values, dict):
        yield prefix.rstrip("."), values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{prefix}{key}.")
