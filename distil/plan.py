"""A dry run: ``python -m distil.plan --profile paper`` lists the steps of the graph, what each reads, and what it should cost.

Nothing is loaded, fetched or trained. Sizes come from the configs; times and memory are estimates, by the constants and
formulas of ``LEGEND``, which stands below the table.
"""

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace as Values
from typing import Any

from distil import config, paths, steps
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
    return Sizes(task, rows, bool(found), rows * (1 + transfer.n_iter), PIECES[task.name], shape, reads)


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
    checkpoints = rates - 1 + min(3, c.epochs * c.evals_per_epoch)
    return Cost(size.rows, seconds, memory, 4 * shape.total, 12 * shape.total * checkpoints)


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
    examples = size.drawn if c.synthetic and c.role == "student-distilled" else size.rows
    kind, _, width = c.vectors.partition(":")
    one = int(width) if kind == "random" and width.isdigit() else 50 if kind == "packages" else 300
    table, copies = (words or WORDS[size.task.name] + c.extra_words) * one, 2 if c.channels == "multichannel" else 1
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


# --- the table --------------------------------------------------------------------------------------------------------


def graph(profile: str, tasks: Sequence[str], seeds: Sequence[int], teacher_seed: int, arms: str) -> list[Step]:
    """The steps in Make's order. ``arms``: empty for none, ``quick`` for those of ``make reproduce``, ``all`` for ablation's."""

    def step(notebook: str, task: str = "", role: str = "", seed: int = teacher_seed, arm: str = "") -> Step:
        return Step(notebook, profile, task, role, arm, seed, teacher_seed)

    def of_arm(arm: config.Arm, seeds: Sequence[int]) -> list[Step]:
        upstream = [("teacher", "02_teacher"), ("transfer_set", "03_transfer_set")]
        anew = [step(notebook, arm.task, arm=arm.name) for stage, notebook in upstream if arm.remakes(stage)]
        return anew + [step("04_student", arm.task, config.ROLES[1], seed, arm.name) for seed in seeds]

    def students(tasks: Sequence[str], seeds: Sequence[int]) -> list[Step]:
        return [step("04_student", task, role, seed) for task in tasks for seed in seeds for role in config.ROLES]

    listed = []
    for task in tasks:
        listed += [step("01_data", task, seed=0), step("02_teacher", task), step("03_transfer_set", task)]
    listed += students(tasks, seeds)
    known = [arm for arm in config.arms(profile).values() if arm.task in tasks] if arms else []
    plan = config.read_yaml(profile, "ablation") if arms else {}
    listed += [one for arm in known if arm.name in plan["quick"] for one in of_arm(arm, plan["seeds"][:1])]
    if arms == "all":  # and the full method with the seeds of the arms
        listed += [one for arm in known for one in of_arm(arm, plan["seeds"])]
        listed += students(sorted({arm.task for arm in known}), plan["seeds"])
    last = {"05_speed": "sst2" in tasks, "06_results": True, "07_ablation": any(one.arm for one in listed)}
    return list(dict.fromkeys([*listed, *(step(name, seed=0) for name, wanted in last.items() if wanted)]))


def inputs(step: Step, size: Sizes) -> str:
    """What a step reads, in words: records of earlier steps, then its source, model, tagger or vectors."""
    c, task, seed = Values(**steps.parameters(step)), size.task.name, step.teacher_seed
    if step.notebook == "01_data":
        return f"source {c.source}" + ("" if size.known else "; ROWS UNKNOWN, counted as max_train, or as GLUE's if 0")
    if step.notebook == "02_teacher":
        title = f"{'' if c.model.partition('@')[0] in MODELS else 'unknown model, counted as '}{size.shape.title}"
        return f"data/{task}, model {c.model} ({title}, {size.shape.total:,} parameters)"
    if step.notebook == "03_transfer_set":
        return f"data/{task}, {task}/{paths.run_name('teacher', seed, c.teacher_arm)}, tagger {c.tagger}"
    if step.notebook == "04_student":
        made = c.vectors == "packages" or c.vectors.startswith("random:") or "@" in c.vectors
        missing = "" if made or Path(c.vectors).expanduser().is_file() else " (NO SUCH FILE HERE)"
        logits = f", {task}/{paths.run_name('transfer-set', seed, c.transfer_arm)}" if c.role == config.ROLES[1] else ""
        return f"data/{task}{logits}, vectors {c.vectors}{missing}"
    return (
        f"data/{task}, random weights of {', '.join(c.models)}" if step.notebook == "05_speed" else "the records above"
    )


def measured(step: Step) -> tuple[str, str]:
    """The time that a step's record reports, and in words on what device; empty where there is no record."""
    record, values = read_record(step.record), steps.parameters(step)
    if not record:
        return "", ""
    other = any(values.get(key) != value for key, value in record["config"].items())
    device = record.get("device", "a device that its record does not name")
    return duration(record["seconds"]), f"; measured on {device}{', with another config' if other else ''}"


def _said(by_task: dict[str, float]) -> str:
    return ", ".join(f"{TASKS[task].title} {count:,}" for task, count in by_task.items())


def duration(seconds: float) -> str:
    """Seconds as ``45 s``, ``20 min`` or ``3 h 20 min``; whole hours from a hundred on."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 100:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds:.0f} s" if seconds < 59.5 else f"{hours} h {minutes} min" if hours else f"{minutes} min"


def volume(count: float) -> str:
    """Bytes as decimal MB or GB; a dash below half a megabyte."""
    return f"{count / 1e9:.1f} GB" if count >= 999.5e6 else f"{count / 1e6:.0f} MB" if count >= 5e5 else "-"


HEAD = ("examples", "pieces", *(cell for gpu in GPUS for cell in (gpu.name, "memory")), "RAM", "disk", "measured")


def row(name: str, *cells: str) -> str:
    """One line of the table, 120 columns at most."""
    widths = (10, 8, 12, 8, 12, 8, 7, 8, 12)
    return (f"{name:35}" + "".join(f"{cell:>{n}}" for cell, n in zip(cells, widths, strict=False))).rstrip()


def on_gpus(costs: Sequence[Cost]) -> list[str]:
    """Time and memory on each GPU: times add up, the largest memory counts."""
    pairs = [(sum(c.seconds[i] for c in costs), max(c.memory[i] for c in costs)) for i in range(len(GPUS))]
    return [cell for seconds, memory in pairs for cell in (duration(seconds), volume(memory))]


def of_step(step: Step, size: Sizes, one: Cost) -> list[str]:
    """A step's figures, and below them what it reads and where it was measured."""
    text = one.examples * (EXAMPLE + size.pieces * PIECE + 8 * len(size.task.labels)) + size.rows * size.pieces * WORD
    counts = [f"{one.examples:,}", f"{one.examples * size.pieces / 1e6:.1f} M"] if one.examples else ["-", "-"]
    time, where = measured(step)
    cells = [*counts, *on_gpus([one]), volume(PYTHON + (text if one.examples else 0)), volume(one.kept + one.meanwhile)]
    read = re.sub(r"(@\w{8})\w+", r"\1", inputs(step, size))  # of a commit, its first digits
    below = textwrap.fill(f"from {read}{where}", 112, break_on_hyphens=False)
    return [row(f"{step.task:4} {step.name}", *cells, time), textwrap.indent(below, " " * 5)]


def report(listed: Sequence[Step]) -> str:
    """The table (two lines a step), the totals and the legend."""
    sized = {key: sizes(step) for key, step in {(step.task, step.arm): step for step in listed}.items()}
    lines, costs, held, most = [row(f"profile {listed[0].profile}", *HEAD)], {}, 0.0, 0.0
    for step in listed:
        size = sized[step.task, step.arm]
        costs[step] = one = cost(step, size)
        lines += of_step(step, size, one)
        most, held = max(most, held + one.kept + one.meanwhile), held + one.kept
    for task in dict.fromkeys(step.task for step in listed if step.task):
        lines.append(
            row(f"{task:4} in all", "", "", *on_gpus([one for step, one in costs.items() if step.task == task]))
        )
    lines.append(row("all steps", "", "", *on_gpus(list(costs.values()))))
    lines.append(f"Disk: {volume(most)} at most at once, {volume(held)} at the end; downloads come on top (see below).")
    return "\n".join([*lines, LEGEND])


_H100, _V100 = GPUS
LEGEND = f"""
ESTIMATES for one GPU; only column 'measured' was run. Shares of a peak and least times are ASSUMED: time fifty steps on
your own GPU before you trust them.

sizes   pieces: word pieces of one pass, examples x the mean ({_said(PIECES)}; SST-2's was counted
        on 60,615 of its training sentences, the others are round figures from memory; other data count alike). Transfer
        set: rows x (1 + n_iter), an upper bound, since duplicates are dropped (1 in 3 on a part of SST-2).
peak    TFLOP/s. Teacher: {_H100.peak / 1e12:g} on {_H100.name} (SXM, dense bf16), {_V100.peak / 1e12:g} on {_V100.name} in fp32:
        distil/teacher.py uses bf16 only where the device has it natively, and a V100 does not.
        Student, fp32: {_H100.fp32 / 1e12:g} and {_V100.fp32 / 1e12:g}.
time    to start a notebook, {START:g} s; 05 to 07 are counted as that alone: of 05 there is no estimate.
        01: pieces / {SPLIT_RATE:,.0f} a second.
        02: the larger of 6 N x pieces x epochs x learning rates / ({TRAIN_USE} peak) and
        steps x layers x {TRAIN_LAYER * 1e3:g} ms (small batches wait for kernel launches); and the tokenizer,
        learning rates x pieces / {FEED_RATE:,.0f} a second.
        N: parameters without embeddings, {BERT_LARGE.non_embedding / 1e6:.1f} M in BERT_LARGE. Left out: attention's own
        products (1 %), GLUE's dev sets (4 %).
        03: the larger of 2 N x pieces / ({LABEL_USE} peak) and batches x layers x {LABEL_LAYER * 1e3:g} ms;
        and one after the other, on one CPU core: tagging, pieces of the rows / {TAG_RATE:,.0f} a second; drawing, tokenizing
        and padding, pieces / {FEED_RATE:,.0f}. The rates of 01 to 03 were measured on one busy core of a small machine.
        04: the larger of 6 x 8 h (d + h) x pieces x epochs / ({TRAIN_USE} peak) and
        steps x {STUDENT_STEP * 1e3:g} ms, for h units a direction over d inputs. A word counts as a word piece; the ReLU
        layer (2 %) and dev are left out.
memory  of the GPU, each with {CUDA / 1e9:g} GB for CUDA. 02: {STATE} bytes a parameter (weight 4, gradient 4, AdamW 8) and
        {COPIES} more (the untuned model that the notebook looks at first, autocast's copies); for the backward pass layers x
        batch x max_length x (34 width + 5 heads x max_length) bytes, twice that in fp32: every input at its longest. A
        V100 has 16 or 32 GB. 03: the weights, and one layer's states of token_budget pieces. 04: 4 bytes x (all
        weights + 3 x the tuned ones: gradient, AdaDelta's two averages), a batch left out. Vocabulary: the record's, or
        assumed ({_said(WORDS)}) with extra_words; vectors 300 wide, from packages 50.
RAM     {PYTHON / 1e9:g} GB for libraries, {EXAMPLE} bytes an example, {PIECE} a piece (text, int32 id), 8 a logit;
        and {WORD} a piece of the training rows, whose words are Python strings for a while.
disk    of a step at once. 01, 03: {TEXT} bytes a piece, 4 a logit. 02: 4 bytes a parameter, and 12 for each checkpoint:
        every learning rate keeps its best until the last is done, which has up to three. 04: weights, two checkpoints.
        Downloads are not counted: BERT_LARGE {4 * BERT_LARGE.total / 1e9:.1f} GB, Google News 3.6 GB."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 2 for an unknown profile or task, or a bad config."""
    parser = argparse.ArgumentParser(prog="python -m distil.plan", description=__doc__.partition(":")[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--teacher-seed", type=int, default=0)
    parser.add_argument(
        "--arms", nargs="?", default="", const="all", choices=("quick", "all"),
        help="the ablation too: 'quick' as in 'make reproduce', or all as in 'make ablation'",
    )  # fmt: skip
    try:
        print(report(graph(**vars(parser.parse_args(arguments)))))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
