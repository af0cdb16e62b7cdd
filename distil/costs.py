"""What the steps of the graph should cost in time and memory, by stated arithmetic; ``plan`` prints it.

Peak rates are the makers', shares of them and least times are assumed, and rates of the CPU's work were measured on one core.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace as Values
from typing import Any

from distil import paths, steps
from distil.config import ConfigError
from distil.steps import Step
from distil.tasks import TASKS, Task

PIECES = {"sst2": 13.3, "qqp": 30.0, "mnli": 39.0}  # mean word pieces an example, [CLS] and [SEP] included
WORDS = {"sst2": 15_000, "qqp": 100_000, "mnli": 100_000}  # vocabulary of the training text, where no record tells it
TRAIN_USE, LABEL_USE = 0.35, 0.45  # share of a GPU's peak: forward and backward, forward alone
TRAIN_LAYER, LABEL_LAYER, STUDENT_STEP = 2.5e-3, 0.5e-3, 5e-3  # least seconds: a BERT layer and batch, a student's step
SPLIT_RATE, TAG_RATE, FEED_RATE = 80e3, 40e3, 150e3  # word pieces a second on one CPU core
START = 9.0  # seconds: a notebook's kernel and imports
STATE, COPIES = 16, 4  # bytes a parameter of a teacher in training
CUDA, PYTHON = 0.5e9, 2e9  # bytes: a GPU's context and kernels; a process with its libraries
EXAMPLE, PIECE, WORD = 100, 8, 70  # bytes of RAM: an example, a word piece of it, a word piece of a training row
TEXT = 4  # bytes on disk of a word piece


@dataclass(frozen=True)
class Gpu:
    """Peak FLOP/s and bytes a number in the teacher's precision; peak FLOP/s in fp32, the student's."""

    name: str
    peak: float
    width: int
    fp32: float


GPUS = (Gpu("H100", 989e12, 2, 67e12), Gpu("V100", 15.7e12, 4, 15.7e12))


@dataclass(frozen=True)
class Shape:
    """A BERT: layers, width, inner width, heads, word pieces in its vocabulary, positions."""

    title: str
    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int = 30_522
    positions: int = 512

    @property
    def non_embedding(self) -> int:
        """Parameters without word, position and type embeddings; the pooler is in, the task's own layer is not."""
        w, inner = self.width, self.inner
        layer = 4 * (w + 1) * w + (w + 1) * inner + (inner + 1) * w + 4 * w  # attention, inner layer, two layer norms
        return self.layers * layer + (w + 1) * w + 2 * w

    @property
    def total(self) -> int:
        """All parameters but the task's own layer."""
        return self.non_embedding + (self.vocabulary + self.positions + 2) * self.width


BERT_LARGE = Shape("BERT_LARGE", 24, 1024, 4096, 16)
MODELS = {
    "google-bert/bert-large-uncased": BERT_LARGE,
    "google-bert/bert-base-uncased": Shape("BERT_BASE", 12, 768, 3072, 12),
    "packages": Shape("MiniLM-L6", 6, 384, 1536, 12),
    "packages-mpnet": Shape("MPNet-base", 12, 768, 3072, 12, 30_527),
    "tiny": Shape("tiny", 2, 64, 128, 4, 60, 128),  # about as many words as a toy set has
}


@dataclass(frozen=True)
class Sizes:
    """Of a task or an arm. ``drawn``: examples of the transfer set if no draw is a duplicate; ``reads``: passes a batch."""

    task: Task
    rows: int
    known: bool
    drawn: int
    pieces: float
    shape: Shape
    reads: int


@dataclass(frozen=True)
class Cost:
    """Of one step: examples; seconds and bytes on each of ``GPUS``; bytes on disk, kept and only meanwhile."""

    examples: int
    seconds: list[float]
    memory: list[float]
    kept: float = 0.0
    meanwhile: float = 0.0


def sizes(step: Step) -> Sizes:
    """Sizes of a step's task and arm, from the profile's configs.

    Raises:
        ConfigError: unknown profile, task or arm, or a bad config.
    """
    step = replace(step, task=step.task or "sst2")  # 05_speed times models on its sentences
    data, teacher, transfer = (
        Values(**steps.parameters(replace(step, notebook=name, arm=arm)))  # data: with GLUE_DIR in place of the hub
        for name, arm in (("01_data", ""), ("02_teacher", step.arm), ("03_transfer_set", step.arm))
    )
    task = TASKS[step.task]
    found = _rows(step.profile, task, data.source, data.max_train)
    rows = min(found, data.max_train or found) if found else data.max_train or task.glue_train_rows
    shape, reads = MODELS.get(teacher.model.partition("@")[0], BERT_LARGE), 1 + (teacher.pair_input == "separate")
    return Sizes(
        task,
        rows,
        bool(found),
        rows * (1 + transfer.n_iter),
        PIECES.get(task.name, PIECES["mnli" if task.pair else "sst2"]),
        shape,
        reads,
    )


def _rows(profile: str, task: Task, source: str, max_train: int) -> int:
    """Training rows of a source, or of a record that was cut alike; 0 where nothing tells."""
    if source == "hub":
        return task.glue_train_rows
    file = (paths.TOY if source == "toy" else Path(source).expanduser()) / task.folder / task.splits["train"].file
    if file.is_file():
        return file.read_bytes().count(b"\n") - 1  # below the header
    record = read_record(paths.data_record(profile, task.name))
    alike = record and (record["config"]["source"], record["config"]["max_train"]) == (source, max_train)
    return record["rows"]["train"] if alike else 0


def read_record(path: Path | None) -> dict[str, Any]:
    """A record that a run left behind; empty where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}): restore or delete it") from None


# --- what a step costs ------------------------------------------------------------------------------------------------


def _data(size: Sizes, c: Values, words: int) -> Cost:
    pieces = size.rows * size.pieces
    return Cost(size.rows, [pieces / SPLIT_RATE] * 2, [0.0] * 2, pieces * TEXT)


def _teacher(size: Sizes, c: Values, words: int) -> Cost:
    shape, pieces, rates = size.shape, size.rows * size.pieces, len(c.learning_rates)
    flops, feed = 6 * shape.non_embedding * rates * c.epochs * pieces, rates * pieces / FEED_RATE
    least = rates * c.epochs * math.ceil(size.rows / c.batch_size) * size.reads * shape.layers * TRAIN_LAYER
    seconds = [feed + max(flops / (gpu.peak * TRAIN_USE), least) for gpu in GPUS]
    layer = size.reads * c.batch_size * c.max_length * (34 * shape.width + 5 * shape.heads * c.max_length) / 2
    memory = [(STATE + COPIES) * shape.total + shape.layers * layer * gpu.width for gpu in GPUS]
    # Each rate leaves its best checkpoint until all are done; the one that runs has its last and a new one beside it.
    checkpoints = min(3, c.epochs * c.evals_per_epoch)
    return Cost(size.rows, seconds, memory, 4 * shape.total, (12 * checkpoints + 4 * (rates - 1)) * shape.total)


def _transfer_set(size: Sizes, c: Values, words: int) -> Cost:
    shape, pieces = size.shape, size.drawn * size.pieces
    host = size.rows * size.pieces / TAG_RATE + pieces / FEED_RATE
    flops, least = 2 * shape.non_embedding * pieces, pieces / c.token_budget * size.reads * shape.layers * LABEL_LAYER
    seconds = [host + max(flops / (gpu.peak * LABEL_USE), least) for gpu in GPUS]
    held = shape.total + c.token_budget * (2 * shape.inner + 4 * shape.width)
    kept = pieces * TEXT + size.drawn * 4 * len(size.task.labels)
    return Cost(size.drawn, seconds, [held * gpu.width for gpu in GPUS], kept)


def student_weights(task: Task, hidden: int, fc: int, width: int) -> int:
    """Parameters of the BiLSTM over ``width`` inputs, its embeddings aside: two LSTMs, ReLU layer, output layer."""
    features = 2 * hidden * (4 if task.pair else 1)
    return 8 * hidden * (width + hidden + 2) + (features + 1) * fc + (fc + 1) * len(task.labels)


def _student(size: Sizes, c: Values, words: int) -> Cost:
    share = c.synthetic if c.role == "student-distilled" else 0
    examples = round((size.rows + share * (size.drawn - size.rows)) * (1 - c.held_out))
    kind, _, width = c.vectors.partition(":")
    one = {
        "random": int(width) if width.isdigit() else 300,
        "packages": 50,
        "pieces": MODELS.get(width, BERT_LARGE).width,
    }
    one = one.get(kind, 300)
    table, copies = (
        (words or WORDS.get(size.task.name, 15_000) + c.extra_words) * one,
        2 if c.channels == "multichannel" else 1,
    )
    weights = student_weights(size.task, c.hidden_size, c.fc_size, copies * one)
    total, tuned = weights + copies * table, weights + (0 if c.channels == "static" else table)
    flops = 3 * 2 * 8 * c.hidden_size * (copies * one + c.hidden_size) * c.epochs * examples * size.pieces
    least = c.epochs * math.ceil(examples / c.batch_size) * STUDENT_STEP
    seconds = [max(flops / (gpu.fp32 * TRAIN_USE), least) for gpu in GPUS]
    # A checkpoint holds weights, best weights and AdaDelta's two averages; the old one stands until the new one is whole.
    return Cost(examples, seconds, [4 * (total + 3 * tuned)] * 2, 4 * total, 2 * 4 * (2 * total + 2 * tuned))


def _cheap(size: Sizes, c: Values, words: int) -> Cost:
    return Cost(0, [0.0] * 2, [0.0] * 2)


COSTS = dict(zip(steps.NOTEBOOKS, (_data, _teacher, _transfer_set, _student, *[_cheap] * 3), strict=True))


def cost(step: Step, size: Sizes) -> Cost:
    """What one step takes on each GPU, the start of its notebook and CUDA's own memory included."""
    words = read_record(step.record).get("vocabulary", {}).get("words", 0)
    found = COSTS[step.notebook](size, Values(**steps.parameters(step)), words)
    memory = [CUDA + used if used else 0.0 for used in found.memory]
    return replace(found, seconds=[START + seconds for seconds in found.seconds], memory=memory)
