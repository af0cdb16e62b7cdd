"""Draws the figures of chapters 06 and 07; shapes and shades carry the meaning, not colours."""

import textwrap
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from distil import config, report
from distil.metrics import reliability
from distil.report import STUDENTS, Results, Row

LOOKS: dict[str, dict[str, Any]] = {  # model -> how it looks in every figure
    "plain": {"label": "plain BiLSTM", "color": "0.45", "ls": "--", "marker": "o", "mfc": "white"},
    "distilled": {"label": "distilled BiLSTM", "color": "0.1", "ls": "-", "marker": "o"},
    "teacher": {"label": "teacher", "color": "0.55", "ls": ":", "marker": "s"},
}
RING = {"marker": "o", "ls": "", "color": "0.1", "mfc": "none", "ms": 9}
# What an arm of the ablation changes, in the order in which chapter 07 explains it.
SECTIONS = ("3.3 transfer set", "3.2 objective", "3.1 networks", "beyond the paper")


def gains(*all_results: Results) -> Figure:
    """Draw plain and distilled students and their teacher, the paper's beside ours."""
    found = [row for results in all_results for row in report.table(results)]
    found = [row for row in found if row["verdict_split"] and row["metric"] == "accuracy"]
    figure, axes = plt.subplots(layout="constrained")
    x, ticks = 0.0, {}
    for task, spec in config.tasks().items():
        rows = [row for row in found if row["task"] == task]
        for row in rows:
            if row is rows[0] and row["paper"]:
                _pair(axes, x, row["paper"])
                ticks[x], x = f"{spec.title}\npaper\ntest server", x + 1.3
            _pair(axes, x, {name: row[name][0] for name in LOOKS}, row["gain"][1:])
            split = textwrap.fill(report.SPLITS[row["split"]], 18)
            ticks[x] = f"{row['dataset']}\nours, {report.seeds(row['seeds'])}\n{split}"
            x += 1.3
        x += 0.4 * bool(rows)
    figure.set_size_inches(max(7, 1.45 * len(ticks)), 4.4)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set(title="How much does a BERT teacher add to the same BiLSTM?", ylabel="accuracy (%)")
    axes.margins(x=0.07, y=0.08)
    hide_spines(axes)
    legend(figure, axes)
    return figure


def _pair(axes: plt.Axes, x: float, scores: dict[str, float], gain: tuple[float, ...] = ()) -> None:
    """Draw one data set; ``gain`` is the interval of the gain, drawn as plain + gain."""
    plain, distilled, teacher = (100 * scores[name] for name in LOOKS)
    places = {x - 0.25: (plain, "plain"), x + 0.25: (distilled, "distilled")}
    axes.plot(list(places), [plain, distilled], color="0.3", lw=1.2, zorder=1)
    for place, (score, name) in places.items():
        axes.plot(place, score, **LOOKS[name] | {"ls": "", "ms": 9})
    axes.plot([x - 0.4, x + 0.4], [teacher, teacher], color="0.55", lw=3, label="teacher")
    if gain:
        look = {"color": "0.4", "lw": 1.2, "marker": "_", "label": "95% interval of the gain"}
        axes.plot([x + 0.25] * 2, [plain + 100 * end for end in gain], zorder=1, **look)
    where = {"xytext": (8, -4), "textcoords": "offset points", "weight": "bold"}
    axes.annotate(report.points((distilled - plain) / 100), (x + 0.25, distilled), **where)


def curves(results: Results) -> Figure:
    """Draw dev accuracy against training steps, one line per seed and one panel per task."""
    figure, panels = _panels(results, 4.2, sharey=True)
    for task, axes in panels.items():
        for name, run in [(n, run) for n in STUDENTS for run in results.students(task, n)[0]]:
            history = 100 * np.array(run.record["history"])
            steps = run.record["steps"] / len(history) * np.arange(1, len(history) + 1)
            axes.plot(steps, history, **LOOKS[name] | {"marker": "", "lw": 1.2})
            axes.plot(steps[history.argmax()], history.max(), **RING)
        teacher = report.mean_score(results.made_by(task, "distilled", "teacher"), "dev")[0]
        axes.axhline(100 * teacher, **LOOKS["teacher"] | {"marker": "", "lw": 1.8})
        axes.set(xscale="log", xlabel="training steps")
        axes.xaxis.set_major_locator(plt.LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(lambda n, _: f"{n / 1000:g}k" if n >= 1000 else f"{n:g}")
        axes.xaxis.set_minor_formatter(plt.NullFormatter())
    axes.plot([], [], **RING, label="the epoch that dev chose")
    legend(figure, axes)
    figure.supylabel("dev accuracy (%)", fontsize=10)
    figure.suptitle("Is the distilled BiLSTM better, or only trained for longer?")
    return figure


def calibration(results: Results) -> Figure:
    """Draw how often each model is wrong on dev against how often it expects to be wrong.

    A point is a tenth of the examples of all seeds. The axes grow with the square root, because
    most answers have a confidence above 95%.
    """
    figure, panels = _panels(results, 3.9)
    ticks, square = [0, 1, 5, 10, 20, 40, 60], (lambda v: np.sqrt(np.maximum(v, 0)), np.square)
    for task, axes in panels.items():
        models, errors = {name: results.students(task, name)[0] for name in STUDENTS}, []
        for name, runs in (
            models | {"teacher": results.made_by(task, "distilled", "teacher")}
        ).items():
            pairs = zip(*(run.predictions["dev"] for run in runs), strict=True)
            sure, right = reliability(*map(np.concatenate, pairs))
            errors.append(f"{name} {100 * np.abs(sure - right).mean():.1f} points")
            look = LOOKS[name] | {"ms": 5, "lw": 1.2, "clip_on": False}
            axes.plot(100 * (1 - sure), 100 * (1 - right), **look)
        top = max(65.0, 1.05 * axes.dataLim.max.max())
        axes.plot([0, top], [0, top], color="0.75", lw=1, zorder=0)
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("function", functions=square)
        axes.set(xlim=(0, top), ylim=(0, top), xticks=ticks, yticks=ticks, box_aspect=1)
        axes.set_xlabel("expects to be wrong (%)")
        told = "\n".join(["calibration error:", *errors])
        axes.text(0.97, 0.03, told, ha="right", fontsize=8, transform=axes.transAxes)
    figure.supylabel("is wrong (%)", fontsize=10)
    figure.suptitle("Does a model know when it is wrong? Above the diagonal it is overconfident")
    legend(figure, axes)
    return figure


def ablation_arms(results: Results) -> Figure:
    """Draw each arm's difference from the distilled student with its interval, a panel per task."""
    found = {task: report.ablation(results, task) for task in results.tasks()}
    found = {task: rows for task, rows in found.items() if len(rows) > len(STUDENTS)}
    lines = [_arm_lines(results, rows) for rows in found.values()]
    heights = [len(panel) + 1 for panel in lines]
    shape = {"figsize": (7.5, 1 + len(found) + 0.26 * sum(heights)), "height_ratios": heights}
    figure, grid = plt.subplots(
        len(found), sharex=True, squeeze=False, layout="constrained", **shape
    )
    for axes, panel, (task, (row, *_)) in zip(grid[:, 0], lines, found.items(), strict=True):
        _arm_panel(axes, panel)
        size = len(results.students(task, "distilled")[0][0].answers(row["split"]))
        where = f"{report.SPLITS[row['split']]}, {size:,} examples"
        axes.set_xlabel(f"points above the distilled student\n{where}")
        axes.set_title(row["dataset"], loc="left", fontsize=11)
    for label, shade in (("clear difference", "0.1"), ("no clear difference", "white")):
        axes.plot([], [], "o-", color="0.5", mec="0.1", mfc=shade, lw=3, ms=8, label=label)
    legend(figure, axes)
    figure.suptitle("Which part of the method does the work?")
    return figure


def _arm_lines(results: Results, rows: list[Row]) -> list[tuple[str, Row | None]]:
    """Return a panel's lines from top to bottom: plain, then each section and its arms."""
    lines: list[tuple[str, Row | None]] = []
    for section in ("", *SECTIONS):
        own = [row for row in rows if _section(results.arms[row["name"]]) == section]
        own = [row for row in own if row["name"] != "distilled"]
        lines += [(section, None)] if section and own else []
        lines += [(f"{row['name']} ({report.seeds(row['shared'])})", row) for row in own]
    return lines


def _section(arm: config.Arm) -> str:
    """Return which of ``SECTIONS`` an arm changes; empty for plain and distilled."""
    changed = {key for changes in arm.changes.values() for key in changes}
    if arm.name in STUDENTS or changed & {"model", "vectors"}:
        return "" if arm.name in STUDENTS else SECTIONS[3]
    if "transfer_set" in arm.changes or "synthetic" in changed:
        return SECTIONS[0]
    return SECTIONS[1] if changed & {"alpha", "objective"} else SECTIONS[2]


def _arm_panel(axes: plt.Axes, lines: list[tuple[str, Row | None]]) -> None:
    """Draw a point and an interval for each arm; a line without a row is a section's name."""
    axes.set_yticks(range(len(lines)), [label for label, _ in lines])
    for y, (label, (_, row)) in enumerate(zip(axes.get_yticklabels(), lines, strict=True)):
        if row is None:
            label.set_weight("bold")
            continue
        mean, low, high = (100 * value for value in row["difference"])
        unclear = report.sign_verdict(row["difference"]).startswith("undecided")
        axes.plot([low, high], [y, y], color="0.5", lw=3, zorder=1)
        axes.plot(mean, y, "o", color="0.1", mfc="white" if unclear else "0.1", ms=8)
    axes.axvline(0, color="0.3", ls="--", lw=1, zorder=0)
    axes.set_ylim(len(lines) - 0.3, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    hide_spines(axes)


def _panels(results: Results, height: float, **shared: bool) -> tuple[Figure, dict[str, plt.Axes]]:
    """Return a figure and its panels, one per task, each titled with the task's data set."""
    tasks = results.tasks()
    shape = {"figsize": (9 if len(tasks) > 1 else 7, height), "squeeze": False, **shared}
    figure, grid = plt.subplots(1, len(tasks), layout="constrained", **shape)
    for task, axes in zip(tasks, grid[0], strict=True):
        record = results.students(task, "distilled")[0][0].record
        axes.set_title(record["dataset"], fontsize=11)
        hide_spines(axes)
    return figure, dict(zip(tasks, grid[0], strict=True))


def hide_spines(axes: plt.Axes) -> None:
    """Hide the lines at the top and at the right of the frame."""
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, axes: plt.Axes) -> None:
    """Place one legend below all panels; ``axes`` has every label at least once."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    place = {"frameon": False, "ncols": len(named), "loc": "outside lower center"}
    figure.legend(named.values(), named.keys(), **place)
