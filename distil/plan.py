"""A dry run: ``python -m distil.plan --profile paper`` lists the steps of the graph, what each reads, and what it should cost.

Nothing is loaded, fetched or trained. Sizes come from the configs; times and memory are estimates, by the constants and
formulas of ``costs`` and ``LEGEND``, which stands below the table.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace as Values

from distil import config, costs, paths, steps
from distil.config import ConfigError
from distil.costs import BERT_LARGE, EXAMPLE, GPUS, MODELS, PIECE, PYTHON, WORD, Cost, Sizes, read_record
from distil.steps import Step
from distil.tasks import TASKS


def graph(profile: str, tasks: Sequence[str], seeds: Sequence[int], teacher_seed: int, arms: str) -> list[Step]:
    """The steps in Make's order. ``arms``: empty for none, ``quick`` for those of ``make reproduce``, ``all`` for ablation's."""

    def step(notebook: str, task: str = "", role: str = "", seed: int = teacher_seed, arm: str = "") -> Step:
        return Step(notebook, profile, task, role, arm, seed, teacher_seed)

    def of_arm(arm: config.Arm, seeds: Sequence[int]) -> list[Step]:
        upstream = [("teacher", "02_teacher"), ("transfer_set", "03_transfer_set")]
        anew = [step(notebook, arm.task, arm=arm.name) for stage, notebook in upstream if arm.remakes(stage)]
        return anew + [step("04_student", arm.task, config.ROLES[1], seed, arm.name) for seed in seeds]

    def students(tasks: Sequence[str], seeds: Sequence[int]) -> list[Step]:
        return [
            step("04_student", task, role, seed) for role in reversed(config.ROLES) for task in tasks for seed in seeds
        ]

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
        made = c.vectors == "packages" or c.vectors.startswith(("random:", "pieces:")) or "@" in c.vectors
        missing = "" if made or Path(c.vectors).expanduser().is_file() else " (NO SUCH FILE HERE)"
        logits = f", {task}/{paths.run_name('transfer-set', seed, c.transfer_arm)}" if c.role == config.ROLES[1] else ""
        return f"data/{task}{logits}, vectors {c.vectors}{missing}"
    return (
        f"data/{task}, random weights of {', '.join(c.models)}" if step.notebook == "05_speed" else "the records above"
    )


def measured(step: Step) -> tuple[str, str]:
    """The time that a step's record reports, and in words on what device; empty where there is none, or it was not measured."""
    record, values = read_record(step.record), steps.parameters(step)
    if not record or record["seconds"] is None:
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


def on_gpus(several: Sequence[Cost]) -> list[str]:
    """Time and memory on each GPU: times add up, the largest memory counts."""
    pairs = [(sum(c.seconds[i] for c in several), max(c.memory[i] for c in several)) for i in range(len(GPUS))]
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
    sized = {key: costs.sizes(step) for key, step in {(step.task, step.arm): step for step in listed}.items()}
    lines, found, held, most = [row(f"profile {listed[0].profile}", *HEAD)], {}, 0.0, 0.0
    for step in listed:
        size = sized[step.task, step.arm]
        found[step] = one = costs.cost(step, size)
        lines += of_step(step, size, one)
        most, held = max(most, held + one.kept + one.meanwhile), held + one.kept
    for task in dict.fromkeys(step.task for step in listed if step.task):
        lines.append(
            row(f"{task:4} in all", "", "", *on_gpus([one for step, one in found.items() if step.task == task]))
        )
    lines.append(row("all steps", "", "", *on_gpus(list(found.values()))))
    lines.append(f"Disk: {volume(most)} at most at once, {volume(held)} at the end; downloads come on top (see below).")
    return "\n".join([*lines, LEGEND])


_H100, _V100 = GPUS
LEGEND = f"""
ESTIMATES for one GPU; only column 'measured' was run. Shares of a peak and least times are ASSUMED: time fifty steps on
your own GPU before you trust them.

sizes   pieces: word pieces of one pass, examples x the mean ({_said(costs.PIECES)}; SST-2's was counted
        on 60,615 of its training sentences, the others are round figures from memory; other data count alike). Transfer
        set: rows x (1 + n_iter), an upper bound, since duplicates are dropped (1 in 3 on a part of SST-2).
peak    TFLOP/s. Teacher: {_H100.peak / 1e12:g} on {_H100.name} (SXM, dense bf16), {_V100.peak / 1e12:g} on {_V100.name} in fp32:
        distil/teacher.py uses bf16 only where the device has it natively, and a V100 does not.
        Student, fp32: {_H100.fp32 / 1e12:g} and {_V100.fp32 / 1e12:g}.
time    to start a notebook, {costs.START:g} s; 05 to 07 are counted as that alone: of 05 there is no estimate.
        01: pieces / {costs.SPLIT_RATE:,.0f} a second.
        02: the larger of 6 N x pieces x epochs x learning rates / ({costs.TRAIN_USE} peak) and
        steps x layers x {costs.TRAIN_LAYER * 1e3:g} ms (small batches wait for kernel launches); and the tokenizer,
        learning rates x pieces / {costs.FEED_RATE:,.0f} a second.
        N: parameters without embeddings, {BERT_LARGE.non_embedding / 1e6:.1f} M in BERT_LARGE. Left out: attention's own
        products (1 %), GLUE's dev sets (4 %).
        03: the larger of 2 N x pieces / ({costs.LABEL_USE} peak) and batches x layers x {costs.LABEL_LAYER * 1e3:g} ms;
        and one after the other, on one CPU core: tagging, pieces of the rows / {costs.TAG_RATE:,.0f} a second;
        drawing, tokenizing and padding, pieces / {costs.FEED_RATE:,.0f}. The rates of 01 to 03 were measured on one
        busy core of a small machine.
        04: the larger of 6 x 8 h (d + h) x pieces x epochs / ({costs.TRAIN_USE} peak) and
        steps x {costs.STUDENT_STEP * 1e3:g} ms, for h units a direction over d inputs. A word counts as a word piece; the ReLU
        layer (2 %) and dev are left out.
memory  of the GPU, each with {costs.CUDA / 1e9:g} GB for CUDA. 02: {costs.STATE} bytes a parameter (weight 4, gradient 4,
        AdamW 8) and {costs.COPIES} more (the untuned model that the notebook looks at first, autocast's copies); for the
        backward pass layers x batch x max_length x (34 width + 5 heads x max_length) bytes, twice that in fp32:
        every input at its longest. A
        V100 has 16 or 32 GB. 03: the weights, and one layer's states of token_budget pieces. 04: 4 bytes x (all
        weights + 3 x the tuned ones: gradient, AdaDelta's two averages), a batch left out. Vocabulary: the record's, or
        assumed ({_said(costs.WORDS)}) with extra_words; vectors 300 wide, from packages 50.
RAM     {PYTHON / 1e9:g} GB for libraries, {EXAMPLE} bytes an example, {PIECE} a piece (text, int32 id), 8 a logit;
        and {WORD} a piece of the training rows, whose words are Python strings for a while.
disk    of a step at once. 01, 03: {costs.TEXT} bytes a piece, 4 a logit. 02: 4 bytes a parameter, 12 for each
        checkpoint, of which there are up to three, and 4 for the best of each further learning rate. 04: weights,
        two checkpoints.
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
