"""Settings, tasks and arms: reads configs/ and checks every value before a step starts.

``configs/paper.yaml`` holds every setting. Another profile holds only what differs from it.
An arm is a variant of the method (``distilled``, ``plain``, ``no-mask``): it changes settings from
some stage on and shares the stages before that one with the main arm.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ROOT = Path(__file__).resolve().parent.parent
CONFIGS, TOY = ROOT / "configs", ROOT / "distil" / "toy"
MAIN, PLAIN = "distilled", "plain"  # the full method, and the student that sees gold labels alone
STAGES = ("teacher", "transfer-set", "student")  # in the order of the method; an arm changes one
NAME = "[a-z0-9][a-z0-9-]*"

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]  # 0 switches the limit off
Share = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["auto", "bfloat16", "float32"]
Model = TypeVar("Model", bound="Checked")


class ConfigError(ValueError):
    """A setting or a name is wrong; the message says where, what was wanted and what came."""


class Checked(BaseModel):
    """A model whose fields have exactly the declared types, and no others."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings among ``values``: ``globals()`` after a parameters cell."""
        return checked(cls, {name: values[name] for name in cls.model_fields}, "parameters")


class DataSettings(Checked):
    """What chapter 01 prepares; ``max_train`` and ``max_dev`` cut a split after a shuffle."""

    source: str
    max_train: CountOrNone
    max_dev: CountOrNone


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

    n_iter: CountOrNone
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
    extra_words: CountOrNone
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
    patience: CountOrNone
    batch_size: Count
    lr: Annotated[float, Field(gt=0)]
    rho: Annotated[float, Field(gt=0, lt=1)]


class SpeedSettings(Checked):
    """Table 2: how many sentences are timed, in which batches, and for which models."""

    sentences: Count
    large_sentences: Count
    single_sentences: Count
    batch_size: Count
    batch_sizes: list[Count]
    repeats: Count
    models: Annotated[list[str], Field(min_length=1)]


SETTINGS: dict[str, type[Checked]] = {
    "data": DataSettings,
    "teacher": TeacherSettings,
    "transfer_set": TransferSettings,
    "student": StudentSettings,
    "speed": SpeedSettings,
}


class Split(Checked):
    """Where a split is: ``file`` in the task's folder of TSV files, ``hub`` on the hub."""

    file: str
    hub: str


class Task(Checked):
    """One task: its columns, labels, splits and metrics.

    ``label`` names the label's column and ``labels`` its values, in the order of the class numbers.
    ``glue_train_rows`` is the size of GLUE's whole training set, 0 for a task of the user's.
    ``short_rows`` is how many rows without all columns are skipped: GLUE's own QQP has a few.
    """

    name: str
    title: str
    folder: str
    text: Annotated[list[str], Field(min_length=1, max_length=2)]
    hub_text: list[str]
    label: str
    labels: Annotated[list[str], Field(min_length=2)]
    meanings: list[str]
    splits: dict[str, Split]
    glue_train_rows: int = 0
    f1: bool = False
    short_rows: int = 0

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
    """A variant of the method: the settings that it changes, by section; no tasks means every task."""

    name: str
    tasks: list[str] = []
    teacher: dict[str, Any] = {}
    transfer_set: dict[str, Any] = {}
    student: dict[str, Any] = {}

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """The changed settings of each section that the arm changes."""
        sections = [stage.replace("-", "_") for stage in STAGES]
        return {name: getattr(self, name) for name in sections if getattr(self, name)}


class Ablation(Checked):
    """The seeds of each arm, and the ``quick`` arms that ``make reproduce`` runs too."""

    seeds: Annotated[list[CountOrNone], Field(min_length=1)]
    quick: list[str]


class Profile(Checked):
    """The shape of a profile; each step checks the values of its own section."""

    data: dict[str, Any]
    teacher: dict[str, Any]
    transfer_set: dict[str, Any]
    student: dict[str, Any]
    speed: dict[str, Any]
    tasks: dict[str, dict[Literal["data", "teacher", "transfer_set", "student"], dict[str, Any]]]
    arms: dict[str, dict[str, Any]]
    ablation: Ablation


# --- reading --------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML that reads ``2e-5`` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _read(name: str) -> dict[str, Any]:
    try:
        found = yaml.load((CONFIGS / name).read_text(encoding="utf-8"), _Loader) or {}
    except yaml.YAMLError as error:
        raise ConfigError(
            f"configs/{name} is not valid YAML: {' '.join(str(error).split())}"
        ) from None
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
        known = f" (known: {', '.join(model.model_fields)})" if "extra" in first["type"] else ""
        raise ConfigError(f"{where}: {key}: {first['msg']}{known}{came}{hint}"[:500]) from None


@functools.cache
def tasks() -> dict[str, Task]:
    """Return the tasks of ``configs/tasks.yaml`` by name: the paper's three, then the user's."""
    found = {}
    for name, values in _read("tasks.yaml").items():
        where = f"configs/tasks.yaml, {name}"
        if not re.fullmatch(NAME, str(name)) or not isinstance(values, dict):
            raise ConfigError(
                f"{where}: wanted 'name: {{text: [column], label: column, labels: [value, value]}}' "
                f"with a name of small letters, digits and hyphens, got {values!r:.80}"
            )
        splits = {"train": {"file": "train.tsv", "hub": "train"}}
        splits["dev"] = {"file": "dev.tsv", "hub": "validation"}
        splits["test"] = {"file": "test.tsv", "hub": "test"}
        filled = {"name": name, "title": name, "folder": name, "splits": splits} | values
        filled = {"hub_text": filled.get("text"), "meanings": filled.get("labels")} | filled
        found[name] = checked(Task, filled, where)
    return found


def task(name: str) -> Task:
    """Return one task; a ConfigError lists the known ones."""
    if name not in tasks():
        raise ConfigError(f"unknown task {name!r}: configs/tasks.yaml has {', '.join(tasks())}")
    return tasks()[name]


def profiles() -> list[str]:
    """Return the names of the profiles: the YAML files of ``configs/`` beside the tasks."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "tasks")


@functools.cache
def profile(name: str) -> dict[str, Any]:
    """Return a profile: ``paper.yaml`` with the profile's own values put over it."""
    if name not in profiles():
        raise ConfigError(f"unknown profile {name!r}: configs/ has {', '.join(profiles())}")
    where, found = f"configs/{name}.yaml", _over(_read("paper.yaml"), _read(f"{name}.yaml"))
    checked(Profile, found, where)
    _known(found["tasks"], tasks(), f"{where}, tasks")
    _known(found["ablation"]["quick"], found["arms"], f"{where}, ablation.quick")
    return found


def _known(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise a ConfigError if one of the names is not among the known ones."""
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: unknown {name!r}; known: {', '.join(known)}")


def _over(base: Any, changes: Any) -> Any:
    """Return ``base`` with ``changes`` put over it, mapping by mapping."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _over(base.get(key), value) for key, value in changes.items()}


@functools.cache
def arms(profile_name: str) -> dict[str, Arm]:
    """Return the arms of a profile by name: ``distilled``, ``plain``, then those of the ablation."""
    found = {}
    for name, values in profile(profile_name)["arms"].items():
        where = f"configs/{profile_name}.yaml, arms.{name}"
        if not re.fullmatch(NAME, str(name)):
            raise ConfigError(f"{where}: a name has small letters, digits and hyphens")
        found[name] = checked(Arm, {"name": name} | values, where)
        _known(found[name].tasks, tasks(), f"{where}.tasks")
    return found


def arm(profile_name: str, name: str, task_name: str = "") -> Arm:
    """Return one arm; a ConfigError if it is unknown or not meant for the task."""
    known = arms(profile_name)
    if name not in known:
        raise ConfigError(
            f"unknown arm {name!r}: configs/{profile_name}.yaml has {', '.join(known)}"
        )
    if task_name and known[name].tasks and task_name not in known[name].tasks:
        raise ConfigError(f"arm {name!r} is for {', '.join(known[name].tasks)}, got {task_name!r}")
    return known[name]


def made_by(profile_name: str, arm_name: str, stage: str) -> str:
    """Return the arm whose ``stage`` an arm uses: itself from its first changed stage on."""
    changed = [
        name for name in STAGES if name.replace("-", "_") in arm(profile_name, arm_name).changes
    ]
    own = arm_name == MAIN or (changed and STAGES.index(stage) >= STAGES.index(changed[0]))
    return arm_name if own else MAIN


def settings(profile_name: str, stage: str, task_name: str = "", arm_name: str = MAIN) -> Any:
    """Return the settings of one step: the profile's, then its task's, then its arm's.

    Raises:
        ConfigError: unknown name or key, wrong type, or value out of range.
    """
    section, values = stage.replace("-", "_"), profile(profile_name)
    layers = [values[section], values["tasks"].get(task_name, {}).get(section, {})]
    layers.append(arm(profile_name, arm_name, task_name).changes.get(section, {}))
    merged = functools.reduce(_over, layers)
    return checked(SETTINGS[section], merged, f"configs/{profile_name}.yaml, {section}")


def departures(profile_name: str) -> list[str]:
    """Return one line for each setting of a profile that is not the paper's, arms left out."""
    paper, ours = _read("paper.yaml"), profile(profile_name)
    parts = [part for part in ours if part not in ("arms", "ablation", "speed")]
    return [
        f"{part}.{key}: {value} (paper.yaml: {before.get(key, 'not set')})"
        for part in parts
        for before in [dict(_leaves(paper[part]))]
        for key, value in _leaves(ours[part])
        if value != before.get(key)
    ]


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings with its dotted key."""
    if not isinstance(values, dict):
        yield prefix.rstrip("."), values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{prefix}{key}.")
