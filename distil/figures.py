"""Draws the figures of chapters 06 and 07 in one style, for white and for dark pages."""

import itertools
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from distil import config, metrics, report
from distil.report import STUDENTS, Estimate, Results

INK, WIDTH = "#808080", 6.4  # a grey for white and black pages; inches, for a phone
STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **{"font.size": 11, "axes.titlesize": 11, "axes.titlelocation": "left", "savefig.dpi": 130},
    **{"figure.constrained_layout.use": True, "figure.titleweight": "bold"},
    "text.parse_math": False,  # a name may have a dollar sign
}
LOOKS: dict[str, dict[str, Any]] = {  # model -> mid-tones, and shapes that survive greyscale
    "plain": {"label": "plain BiLSTM", "color": "#e08214", "ls": "--", "marker": "^"},
    "distilled": {"label": "distilled BiLSTM", "color": "#2b78d6", "ls": "-", "marker": "o"},
    "teacher": {"label": "teacher", "color": "#2e9e62", "ls": ":", "marker": "s"},
}
PAPER = {"label": "the paper", "color": LOOKS["plain"]["color"], "ls": "", "marker": "D"}
TIMED = {"minilm": "packages", "mpnet": "packages-mpnet"}  # teachers that chapter 05 times
Line = tuple[str, Estimate, float | None]  # a label, a difference, and the paper's


@plt.rc_context(STYLE)
def gains(*all_results: Results) -> Figure:
    """Draw what distillation adds on each data set, with its interval and the paper's gain."""
    lines: list[Line] = []
    for row in (row for results in all_results for row in report.table(results)):
        if row["verdict_split"]:
            name, paper = config.task(row["task"]).title, row["paper"]
            name = f"for {name}" if paper and not row["dataset"].startswith("glue") else name
            where = f"{row['dataset']}, {row['split']}, {report.seeds(row)}"
            label = f"{name}, {row['metric']}, {row['teacher_name']}\n{where}"
            published = paper["distilled"].mean - paper["plain"].mean if paper else None
            lines.append((label, row["gain"], published))
    figure, axes = plt.subplots(figsize=(WIDTH, 1.5 + 0.55 * len(lines)))
    _forest(axes, lines)
    axes.set(title="distilled minus plain BiLSTM, with 95% intervals", xlabel="points")
    return _finish(figure, "How much does a BERT teacher add?")


@plt.rc_context(STYLE)
def ablation_arms(results: Results) -> Figure:
    """Draw each arm's difference from its reference; a band marks what one of five tries misses.

    Four of five comparisons find a true difference of 2.8 standard errors (Cohen 1988).
    """
    found = [report.ablation(results, task) for task in results.tasks()]
    found = [rows for rows in found if {row["name"] for row in rows} - set(STUDENTS)]
    sizes = [1.4 * len(rows) + 2 for rows in found]
    shape = {"figsize": (WIDTH, 1 + 0.33 * sum(sizes)), "height_ratios": sizes}
    figure, grid = plt.subplots(len(found), squeeze=False, **shape)
    for axes, rows in zip(grid[:, 0], found, strict=True):
        others = [row for row in rows if row["name"] != config.MAIN]
        names = [f"{row['name']} minus\n{row['against']}, {report.seeds(row)}" for row in others]
        _forest(axes, [(n, r["gain"], None) for n, r in zip(names, others, strict=True)])
        widths = [np.ptp(row["gain"][1:]) for row in others if row["name"] not in STUDENTS]
        least = 100 * (2.8 * np.median(widths) / (2 * 1.96) + report.MARGIN)
        missed = "a difference that more than one of five tries misses"
        axes.axvspan(-least, least, color=INK, alpha=0.15, lw=0, label=missed)
        axes.set_title(
            f"{rows[0]['dataset']}, {rows[0]['split']}, {rows[0]['examples']:,} examples"
        )
        axes.set_xlabel(f"difference in points (grey: up to {least:.1f})")
    return _finish(figure, "Which part of the method does the work?")


def _forest(axes: plt.Axes, lines: list[Line]) -> None:
    """Draw an estimate per line from top to bottom; a full point is decided, an open one is not."""
    axes.set_yticks(range(len(lines)), [label for label, *_ in lines])
    look = LOOKS["distilled"] | {"ls": "", "ms": 9, "zorder": 3}
    for y, (_, estimate, paper) in enumerate(lines):
        value, low, high = (100 * one for one in estimate)
        unclear = estimate.sign().startswith("undecided")
        shade = {"mfc": "white", "label": "undecided"} if unclear else {"label": "decided"}
        axes.plot([low, high], [y, y], color=look["color"], lw=2)
        axes.plot(value, y, **look | shade)
        if paper is not None:
            axes.plot(100 * paper, y + 0.3, **PAPER)
        where = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 10}
        axes.annotate(str(estimate), (1.02, y), **where)
    axes.axvline(0, color=INK, ls="--", lw=1, zorder=0)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


@plt.rc_context(STYLE)
def curves(results: Results) -> Figure:
    """Draw dev accuracy against steps, a line per seed; diamonds compare at plain's last step."""
    tasks = results.tasks()
    figure, grid = plt.subplots(len(tasks), figsize=(WIDTH, 1 + 2.3 * len(tasks)), squeeze=False)
    for task, axes in zip(tasks, grid[:, 0], strict=True):
        models, found = results.models(task), report.equal_steps(results, task)
        title = models["plain"][0].record["dataset"] + "; at equal steps" * bool(found)
        for name in STUDENTS:
            for run in models[name]:
                history = 100 * np.array(run.record["history"])
                steps = run.record["steps"] / len(history) * np.arange(1, len(history) + 1)
                axes.plot(steps, history, **LOOKS[name] | {"marker": "", "lw": 1.3})
            if found:
                diamond = {"marker": "D", "ls": "", "ms": 9, "label": f"{name} at equal steps"}
                axes.plot(found["steps"], 100 * found[name], **LOOKS[name] | diamond)
                title += f", {name} {100 * found[name]:.1f}"
        teacher = 100 * report.score(models["teacher"], "dev").mean
        axes.axhline(teacher, **LOOKS["teacher"] | {"marker": "", "lw": 2})
        axes.set(xscale="log", title=title, ylabel="dev accuracy (%)", xlabel="steps (log scale)")
        axes.margins(y=0.12)
    return _finish(figure, "Better, or only trained for longer?")


@plt.rc_context(STYLE)
def latency(results: Results) -> Figure:
    """Draw SST-2's dev accuracy against the time for one sentence, for each model that was timed.

    The line is the student that asks its teacher where its margin is smallest. A form of the student
    (int8, ONNX) stands at the students' mean, moved by what chapter 05 measured on one of them.
    """
    (speed,), models = results.runs["", "", "speed"], results.models("sst2")
    (row, *_) = (r for r in report.table(results) if (r["task"], r["split"]) == ("sst2", "dev"))
    forms, teacher = speed.record.get("dev_accuracy", {}), models["teacher"][0]
    runs = [runs[0] for key, runs in results.runs.items() if key[::2] == ("sst2", "teacher")]
    taught = {run.record["config"]["model"]: report.score([run], "dev").mean for run in runs}
    times = {one["name"]: one["ms_single"] for one in speed.record["models"] if "ms_single" in one}
    times |= {name: float(np.median(ms)) for name, ms in speed.record.get("dev_ms", {}).items()}
    gain, found = row["distilled"].mean - forms.get("student", 0), []
    found += [("distilled", name, gain + accuracy) for name, accuracy in forms.items()]
    found += [("teacher", name, taught[model]) for name, model in TIMED.items() if model in taught]
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
    found = sorted((one for one in found if one[1] in times), key=lambda one: times[one[1]])
    axes.plot(times["student"], 100 * row["plain"].mean, **LOOKS["plain"] | {"ls": "", "ms": 9})
    for (model, name, accuracy), side in zip(found, itertools.cycle((1, -1)), strict=False):
        axes.plot(times[name], 100 * accuracy, **LOOKS[model] | {"ls": "", "ms": 9})
        place = {"xytext": (3, 7 * side), "textcoords": "offset points", "fontsize": 9}
        place |= {"rotation": 45 * side, "va": "bottom" if side > 0 else "top"}
        axes.annotate(name.removeprefix("student-"), (times[name], 100 * accuracy), **place)
        if TIMED.get(name) == teacher.record["config"]["model"]:
            gold = teacher.predictions["dev"]
            mixed = [metrics.fallback(r.predictions["dev"][0], *gold) for r in models["distilled"]]
            spent = times["student"] + np.linspace(0, times[name], len(mixed[0]))
            look = {"color": LOOKS["distilled"]["color"], "label": "asks its teacher when unsure"}
            axes.plot(spent, 100 * np.mean(mixed, axis=0), lw=1.3, **look)
    axes.set(xscale="log", xlabel=f"milliseconds for one sentence ({speed.record['device']})")
    axes.set(title=f"{teacher.record['dataset']}: up and left is better", ylabel="dev accuracy (%)")
    if row["floors"]:
        floor, score = max(row["floors"].items(), key=lambda one: one[1])
        axes.axhline(100 * score.mean, color=INK, ls="--", lw=1, label=floor)
    axes.margins(0.15)
    return _finish(figure, "What does a better answer cost?")


def _finish(figure: Figure, title: str) -> Figure:
    """Add a title, plain numbers on logarithmic axes, and one legend with every label once."""
    for axes in (axes for axes in figure.axes if axes.get_xscale() == "log"):
        axes.xaxis.set_major_locator(plt.LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(lambda n, _: f"{n / 1000:g}k" if n >= 1000 else f"{n:g}")
        axes.xaxis.set_minor_formatter(plt.NullFormatter())
    figure.suptitle(title, x=0.01, ha="left")
    pairs = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes]
    named = {label: handle for pair in pairs for handle, label in pair}
    figure.legend(named.values(), named.keys(), ncols=2, loc="outside lower center")
    return figure
