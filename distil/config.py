"""One frozen dataclass per step, and the reader of ``configs/<profile>/<step>.yaml``.

A config file is flat: one key per field. ``tasks:`` and ``roles:`` hold overrides for one task or one role. An unknown key,
a missing one or a value of the wrong type is an error that names the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import yaml

from distil import paths
from distil.tasks import TASKS

ROLES = ("student-baseline", "student-distilled")
PAIR_INPUTS = ("joint", "separate")
OBJECTIVES = ("mse", "kl")
CHANNELS = ("random", "static", "tuned", "multichannel")
POOLINGS = ("last", "attention")
MAY_BE_ZERO = ("max_train", "max_dev", "n_iter", "extra_words", "patience")  # every other whole number is at least 1


class ConfigError(ValueError):
    """A config file or a parameter is not what the step needs; the message says what to change."""


@dataclass(frozen=True)
class Config:
    """Checks the type of every field on construction: papermill and YAML hand over whatever was typed.

    Raises:
        ConfigError: a value has the wrong type (``2e-5`` in YAML is a string: write ``2.0e-5``) or is out of range.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not field.type:
                hint = " (YAML reads 2e-5 as text: write 2.0e-5)" if field.type is float and type(value) is str else ""
                raise ConfigError(f"{field.name} must be {field.type.__name__}, got {value!r}{hint}")
            elif field.type is int and value < (least := 0 if field.name in MAY_BE_ZERO else 1):
                raise ConfigError(f"{field.name} must be at least {least}, got {value!r}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The config whose fields are among ``values``: in a notebook, ``globals()`` after its parameters cell."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def _require(self, ok: bool, what: str) -> None:
        if not ok:
            raise ConfigError(f"{type(self).__name__}: {what}")

    def _choice(self, name: str, choices: tuple[str, ...]) -> None:
        self._require(getattr(self, name) in choices, f"{name} must be one of {choices}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class DataConfig(Config):
    """What 01_data prepares. ``max_train`` and ``max_dev`` cut a split to its first rows after a shuffle; 0 keeps all."""

    source: str
    max_train: int
    max_dev: int


@dataclass(frozen=True)
class TeacherConfig(Config):
    """Fine-tuning of the teacher. ``model``: ``tiny``, ``packages``, a hub id (``name@commit``) or a folder.

    ``pair_input``: ``joint`` (``[CLS] a [SEP] b [SEP]``) or ``separate`` (two passes, their features side by side).
    """

    model: str
    pair_input: str
    learning_rates: list
    epochs: int
    batch_size: int
    max_length: int
    warmup: float
    weight_decay: float
    evals_per_epoch: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("pair_input", PAIR_INPUTS)
        rates = self.learning_rates
        self._require(
            bool(rates) and all(type(x) is float and 0 < x < 1 for x in rates),
            f"learning_rates must be a list of floats such as [2.0e-5, 3.0e-5], got {rates!r}",
        )


@dataclass(frozen=True)
class TransferConfig(Config):
    """The three rules (paper section 3.3) and the labelling. ``tagger``: ``toy``, ``packages`` or ``nltk``."""

    n_iter: int
    p_mask: float
    p_pos: float
    p_ng: float
    tagger: str
    token_budget: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("p_mask", "p_pos", "p_ng"):
            self._require(0 <= getattr(self, name) <= 1, f"{name} is a probability, got {getattr(self, name)!r}")
        self._require(self.p_mask + self.p_pos <= 1, "p_mask + p_pos must not exceed 1: one uniform draw decides both")
        self._choice("tagger", ("toy", "packages", "nltk"))


@dataclass(frozen=True)
class StudentConfig(Config):
    """The BiLSTM and its training. ``vectors``: ``random:<width>``, ``packages``, ``pieces:<model>``, a hub id or a file.

    ``objective`` is how far the student's logits are from the teacher's: ``mse`` (section 3.2) or ``kl`` at a temperature.
    """

    vectors: str
    extra_words: int
    channels: str
    hidden_size: int
    fc_size: int
    pooling: str
    dropout: float
    objective: str
    temperature: float
    alpha: float
    synthetic: float
    held_out: float
    epochs: int
    patience: int
    batch_size: int
    lr: float
    rho: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("channels", CHANNELS)
        self._choice("pooling", POOLINGS)
        self._choice("objective", OBJECTIVES)
        self._require(self.temperature > 0, f"temperature divides logits and lies above 0, got {self.temperature!r}")
        self._require(0 <= self.dropout < 1, f"dropout is a share in [0, 1), got {self.dropout!r}")
        self._require(0 <= self.synthetic <= 1, f"synthetic is a share in [0, 1], got {self.synthetic!r}")
        self._require(0 <= self.held_out < 1, f"held_out is a share in [0, 1), got {self.held_out!r}")
        self._require(0 <= self.alpha <= 1, f"alpha weighs two losses and lies in [0, 1], got {self.alpha!r}")


@dataclass(frozen=True)
class SpeedConfig(Config):
    """Table 2. ``sentences`` are timed ``repeats`` times per model, in batches of ``batch_size`` and one by one.

    On a CPU a model that is not the student is timed on ``large_sentences`` of them.
    """

    sentences: int
    large_sentences: int
    single_sentences: int
    batch_size: int
    batch_sizes: list
    repeats: int
    models: list

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            "student" in self.models, f"models must hold 'student', the measure of the others, got {self.models!r}"
        )
        sizes = self.batch_sizes
        self._require(all(type(n) is int and n > 0 for n in sizes), f"batch_sizes must be whole numbers, got {sizes!r}")


@dataclass(frozen=True)
class Arm:
    """One arm of the ablation: ``changes`` to the config of a stage (``teacher``, ``transfer_set``, ``student``) or of several.

    All that follows the first changed stage is made anew for the arm; what comes before it is the main run's.
    """

    name: str
    task: str
    changes: dict[str, dict[str, Any]]  # stage: the changed keys with their values; the stages in their order

    @property
    def stage(self) -> str:
        """The first stage that the arm changes."""
        return next(iter(self.changes))

    def changes_of(self, section: str) -> dict[str, Any]:
        """What the arm changes in the config of a step; most often nothing."""
        return self.changes.get(section, {})

    def changed(self) -> dict[str, Any]:
        """All that the arm changes, whatever the stage."""
        return {key: value for values in self.changes.values() for key, value in values.items()}

    def remakes(self, section: str) -> bool:
        """Whether the step with this config runs anew for the arm."""
        return STAGES.index(section) >= STAGES.index(self.stage)


STAGES = ("teacher", "transfer_set", "student")
ARM_NAME = "[a-z0-9][a-z0-9-]*"
FILES = ("teacher", "transfer-set", "student-baseline", "student-distilled")  # runs are called so, and no arm may be
STEPS: dict[str, type[Config]] = {
    "data": DataConfig,
    "teacher": TeacherConfig,
    "transfer_set": TransferConfig,
    "student": StudentConfig,
    "speed": SpeedConfig,
}
C = TypeVar("C", bound=Config)


def profiles() -> list[str]:
    """Names of the profiles: the folders of ``configs/``."""
    return sorted(p.name for p in paths.CONFIGS.iterdir() if p.is_dir())


def read_yaml(profile: str, name: str) -> dict[str, Any]:
    """The mapping in ``configs/<profile>/<name>.yaml``.

    Raises:
        ConfigError: no such profile, no such file, or the file is not a YAML mapping.
    """
    if profile not in profiles():
        raise ConfigError(f"unknown profile {profile!r}: the folders of configs/ are {', '.join(profiles())}")
    path = paths.CONFIGS / profile / f"{name}.yaml"
    if not path.exists():
        raise ConfigError(f"configs/{profile}/{name}.yaml is missing: copy it from configs/offline and edit it")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"configs/{profile}/{name}.yaml is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"configs/{profile}/{name}.yaml must hold 'key: value' lines, got {type(values).__name__}")
    return values


def load(profile: str, step: str, task: str, role: str = "", overrides: Mapping[str, Any] | None = None) -> Config:
    """The config of one step: the file's keys, then its task's, then its role's, then ``overrides``.

    Raises:
        ConfigError: unknown profile, task, role or key; missing key; wrong type. The message names the file.
    """
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}: known are {', '.join(TASKS)}")
    values = read_yaml(profile, step)
    where = f"configs/{profile}/{step}.yaml"
    by_task, by_role = values.pop("tasks", {}), values.pop("roles", {})
    for name, section, known in (("tasks", by_task, tuple(TASKS)), ("roles", by_role, ROLES)):
        if not isinstance(section, dict) or not all(isinstance(part, dict) for part in section.values()):
            raise ConfigError(f"{where}: '{name}:' must hold, for some of {list(known)}, 'key: value' lines")
        if unknown := set(section) - set(known):
            raise ConfigError(f"{where}: unknown key {sorted(unknown)} under '{name}:'; known are {list(known)}")
    values |= by_task.get(task, {}) | by_role.get(role, {}) | dict(overrides or {})
    return build(STEPS[step], values, where)


def arms(profile: str) -> dict[str, Arm]:
    """The arms of ``configs/<profile>/ablation.yaml``, each checked against the config that it changes.

    Raises:
        ConfigError: an arm has no task or no stage, changes what a stage does not know, is not written on the one line that
            Make reads too (its first stage first), or is called as other files are.
    """
    found, text = {}, (paths.CONFIGS / profile / "ablation.yaml").read_text(encoding="utf-8")
    for name, values in (read_yaml(profile, "ablation").get("arms") or {}).items():
        where = f"configs/{profile}/ablation.yaml, arm {name}"
        stages = [stage for stage in STAGES if isinstance(values, dict) and isinstance(values.get(stage), dict)]
        if not stages or set(values) != {"task", *stages} or values["task"] not in TASKS:
            raise ConfigError(
                f"{where}: wanted {{task: one of {list(TASKS)}, and for some of {list(STAGES)}: {{key: value}}}}"
            )
        if not re.search(rf"^  {re.escape(str(name))}: {{task: {values['task']}, {stages[0]}: {{", text, re.MULTILINE):
            raise ConfigError(f"{where}: write it on a line as Make reads it: '  {name}: {{task: {values['task']}, "
                              f"{stages[0]}: {{key: value}}}}'")  # fmt: skip
        if not re.fullmatch(ARM_NAME, str(name)) or str(name).endswith(FILES):
            raise ConfigError(f"{where}: a name is of a-z, 0-9 and '-', and does not end in {' or '.join(FILES)}")
        found[name] = Arm(name, values["task"], {stage: values[stage] for stage in stages})
        for stage, changes in found[name].changes.items():
            load(profile, stage, values["task"], ROLES[1], changes)
    return found


def build(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Make a config from a mapping; ``where`` names its origin in errors."""
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{where}: unknown key {unknown}; known keys are {sorted(known)}")
    if missing := sorted(known - set(values)):
        raise ConfigError(f"{where}: missing key {missing}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
