"""The figures of the report, drawn from records alone; marker shapes, line styles and grey shades carry the meaning."""

import textwrap
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distil import config, report
from distil.metrics import reliability
from distil.tasks import TASKS

STUDENTS = ("student-baseline", "student-distilled")
LOOKS: dict[str, dict[str, Any]] = {  # role -> how it looks on every figure
    "student-baseline": {"label": "plain BiLSTM", "color": "0.45", "linestyle": "--", "marker": "o", "mfc": "white"},
    "student-distilled": {"label": "distilled BiLSTM", "color": "0.1", "linestyle": "-", "marker": "o"},
    "teacher": {"label": "its teacher", "color": "0.55", "linestyle": ":", "marker": "s"},
}
RING = {"marker": "o", "linestyle": "", "color": "0.1", "markerfacecolor": "none", "markersize": 9}
# What the arms of the ablation change, in the order in which chapter 07 explains them.
SECTIONS = ("3.3 transfer set", "3.2 objective", "3.1 networks", "beyond the paper")


def gains(*profiles: str) -> Figure:
    """Plain BiLSTM -> distilled BiLSTM, and the teacher above them as a bar; each of the paper's tasks beside ours."""
    columns, x = [], 0.0  # where it stands, scores, interval of the gain, name
    for task, spec in TASKS.items():
        rows = [row for profile in profiles for row in report.table(profile) if row["task"] == task]
        rows = [row for row in rows if row["metric"] == "accuracy" and row["judged"]]
        if rows and spec.in_paper:
            columns.append((x, rows[0]["paper"], None, f"{spec.title}\npaper\ntest server"))
            x += 1.3
        for row in rows:
            scored = textwrap.fill(report.split_name(row["split"]), 18)
            label = f"{row['dataset']}\nours, {_seeds(len(row['seeds']))}\n{scored}"
            columns.append((x, {role: row[role][0] for role in LOOKS}, row["gain"][1:], label))
            x += 1.3
        x += 0.4 * bool(rows)
    figure, axes = plt.subplots(figsize=(max(7, 1.45 * len(columns)), 4.4), layout="constrained")
    for x, scores, interval, _ in columns:
        _pair(axes, x, {role: 100 * score for role, score in scores.items()}, interval)
    axes.set_xticks([x for x, *_ in columns], [label for *_, label in columns])
    axes.set(title="How much better is the same BiLSTM when a BERT teaches it?", ylabel="accuracy (%)")
    axes.margins(x=0.07, y=0.08)
    _plain(axes)
    _legend(figure, axes)
    return figure


def _pair(axes: plt.Axes, x: float, scores: dict[str, float], interval: tuple[float, float] | None) -> None:
    """Plain at the left, distilled at the right, in percent; ``interval``: of the gain, drawn as plain + gain."""
    plain, distilled, teacher = (scores[role] for role in (*STUDENTS, "teacher"))
    left, right = x - 0.25, x + 0.25
    axes.plot([left, right], [plain, distilled], color="0.3", linewidth=1.2, zorder=1)
    for place, score, role in ((left, plain, STUDENTS[0]), (right, distilled, STUDENTS[1])):
        axes.plot(place, score, **LOOKS[role] | {"linestyle": "", "markersize": 9})
    axes.plot([x - 0.4, x + 0.4], [teacher, teacher], color="0.55", linewidth=3, label=LOOKS["teacher"]["label"])
    if interval:
        low, high = (plain + 100 * value for value in interval)
        label = "95% interval of the gain"
        axes.plot([right, right], [low, high], "-", color="0.4", linewidth=1.2, marker="_", zorder=1, label=label)
    gain = report.points((distilled - plain) / 100)
    axes.annotate(gain, (right, distilled), textcoords="offset points", xytext=(8, -4), weight="bold")


def curves(profile: str) -> Figure:
    """Dev accuracy after each epoch against training steps, a line a seed; a panel a task."""
    tasks = _tasks(profile)
    figure, panels = _panels(len(tasks), 4.2, sharey=True)
    for axes, task in zip(panels, tasks, strict=False):
        for role in STUDENTS:
            for run in _runs(profile, task, role):
                _curve(axes, run, role)
        teacher = 100 * report.mean_score(_runs(profile, task, "teacher"), "dev")[0]
        axes.axhline(teacher, **LOOKS["teacher"] | {"marker": "", "linewidth": 1.8})
        axes.set(xscale="log", xlabel="training steps")
        axes.set_title(report.dataset(profile, task), fontsize=11)
        axes.xaxis.set_major_formatter(_thousands)
        axes.xaxis.set_minor_formatter(plt.NullFormatter())
    panels[0].set_ylabel("dev accuracy (%)")
    panels[0].plot([], [], **RING, label="the epoch that dev chose")
    _legend(figure, panels[0])
    figure.suptitle("Is the distilled BiLSTM better, or only trained for longer?")
    return figure


def _curve(axes: plt.Axes, run: report.Run, role: str) -> None:
    """One seed, with a ring at the epoch that dev chose."""
    history = 100 * np.array(run.record["history"])
    steps = run.record["steps"] / len(history) * np.arange(1, len(history) + 1)
    best = int(history.argmax())
    axes.plot(steps, history, **LOOKS[role] | {"marker": "", "linewidth": 1.2})
    axes.plot(steps[best], history[best], **RING)


def calibration(profile: str) -> Figure:
    """How often each model is wrong against how often it says that it may be, in ten bins of equally many dev examples.

    A panel a task, all seeds of a model pooled. Both axes grow with the square root: most answers are given with a confidence
    of over 95%, and a bin without an error still has a place.
    """
    tasks = _tasks(profile)
    figure, panels = _panels(len(tasks), 4.7)
    figure.set_size_inches(max(5, 3.3 * len(tasks)), 4.7)  # the panels are square
    for axes, task in zip(panels, tasks, strict=False):
        errors = [_bins(axes, role, _runs(profile, task, role)) for role in LOOKS]
        _square(axes)
        axes.set_title(report.dataset(profile, task), fontsize=11)
        off = ", ".join(
            f"{role} {100 * error:.1f}" for role, error in zip(("plain", "distilled", "teacher"), errors, strict=True)
        )
        axes.set_xlabel(f"says that it may be wrong (%)\n\ncalibration error in points:\n{off}", fontsize=9)
    panels[0].set_ylabel("is wrong (%)")
    figure.suptitle("Does it know when it errs? Above the diagonal it is overconfident")
    _legend(figure, panels[0])
    return figure


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015) of bins of equally many examples: their mean distance from the diagonal."""
    return float(np.abs(sure - right).mean())


def _bins(axes: plt.Axes, role: str, runs: list[report.Run]) -> float:
    """Draw a model's bins; its calibration error."""
    logits, labels = (np.concatenate(parts) for parts in zip(*(run.predictions["dev"] for run in runs), strict=True))
    sure, right = reliability(logits, labels)
    axes.plot(
        100 * (1 - sure), 100 * (1 - right), **LOOKS[role] | {"markersize": 5, "linewidth": 1.2, "clip_on": False}
    )
    return calibration_error(sure, right)


def _square(axes: plt.Axes) -> None:
    """Percentages against percentages on axes that grow with the square root, and the diagonal where both agree."""
    ticks = [0, 1, 5, 10, 20, 40, 60]
    top = max(65.0, 1.05 * axes.dataLim.max.max())
    axes.plot([0, top], [0, top], color="0.75", linewidth=1, zorder=0)
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("function", functions=(lambda values: np.sqrt(np.maximum(values, 0)), np.square))
    axes.set(xlim=(0, top), ylim=(0, top), xticks=ticks, yticks=ticks)
    axes.set_box_aspect(1)


def size_curve(profile: str, task: str = "sst2") -> Figure:
    """Accuracy of the distilled student against the number of examples it learned from, with 95% intervals.

    All points and the plain student's line are of the seeds that every point has.
    """
    rows = report.by_size(profile, task)
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    sizes, split = [row["examples"] for row in rows], rows[-1]["split"]
    means, lows, highs = (100 * np.array([row["score"][i] for row in rows]) for i in range(3))
    look = LOOKS["student-distilled"] | {"label": "distilled BiLSTM, 95% interval", "capsize": 4, "elinewidth": 1.2}
    look |= {} if len(rows) > 2 else {"linestyle": ""}  # two points are no curve
    axes.errorbar(sizes, means, yerr=[means - lows, highs - means], **look)
    for role, scored in (("teacher", split.removesuffix("_untouched")), ("student-baseline", split)):
        runs = _runs(profile, task, role)
        same = [run for run in runs if role == "teacher" or run.record["seed"] in rows[-1]["seeds"]]
        axes.axhline(100 * report.mean_score(same or runs, scored)[0], **LOOKS[role] | {"marker": "", "linewidth": 1.8})
    axes.set(xscale="log", title=f"{report.dataset(profile, task)}: do more synthetic sentences make a better student?")
    axes.set_xticks(sizes, [f"{_thousands(row['examples'])}\n{_seeds(len(row['seeds']))}" for row in rows])
    axes.xaxis.set_minor_locator(plt.NullLocator())
    axes.set(xlabel=f"examples in the transfer set\n{_scored_on(profile, task, split)}", ylabel="accuracy (%)")
    _plain(axes)
    _legend(figure, axes)
    return figure


def ablation_arms(profile: str, rows: dict[str, list[dict[str, Any]]]) -> Figure:
    """Difference of each arm to the full method with its 95% interval, one panel a task of ``report.ablation``.

    Arms are grouped by the section of the paper; a full point is a difference that the split can tell from none.
    """
    panels = {task: _arm_lines(profile, found) for task, found in rows.items()}
    heights = [len(lines) + 1 for lines in panels.values()]
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(7.5, 1.0 + 0.85 * len(panels) + 0.26 * sum(heights)), layout="constrained",
        squeeze=False, sharex=True, height_ratios=heights,
    )  # fmt: skip
    for axes, (task, lines) in zip(grid[:, 0], panels.items(), strict=True):
        _arm_panel(axes, lines)
        scored = _scored_on(profile, task, rows[task][0]["split"])
        axes.set_xlabel(f"points above the full method\n{scored}")
        axes.set_title(report.dataset(profile, task), loc="left", fontsize=11)
    figure.legend(handles=_told_apart(), frameon=False, ncols=2, loc="outside lower center")
    figure.suptitle("Which part of the method does the work?")
    return figure


def _arm_lines(profile: str, rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any] | None]]:
    """From top to bottom: the plain student, then each section with its arms; a section's line has no row."""
    arms = config.arms(profile)
    label = {row["name"]: f"{row['name']} ({_seeds(len(row['seeds']))})" for row in rows}
    lines: list[tuple[str, dict[str, Any] | None]] = [(label["plain"], row) for row in rows if row["name"] == "plain"]
    for section in SECTIONS:
        found = [row for row in rows if row["name"] in arms and _section(arms[row["name"]]) == section]
        lines += [(section, None), *((label[row["name"]], row) for row in found)] if found else []
    return lines


def _arm_panel(axes: plt.Axes, lines: list[tuple[str, dict[str, Any] | None]]) -> None:
    """Sections in bold, and below each a point and its interval for every arm."""
    for y, (_, row) in enumerate(lines):
        if row:
            _arm(axes, y, row["difference"])
    axes.axvline(0, color="0.3", linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(lines)), [label for label, _ in lines])
    for label, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_weight("normal" if row else "bold")
    axes.set_ylim(len(lines) - 0.3, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    _plain(axes)


def _section(arm: config.Arm) -> str:
    """Which of ``SECTIONS`` an arm belongs to."""
    changed = set(arm.changed())
    if arm.stage == "transfer_set" or "synthetic" in changed:
        return SECTIONS[0]
    if changed & {"alpha", "objective"}:
        return SECTIONS[1]
    return SECTIONS[3] if changed & {"model", "vectors"} else SECTIONS[2]


def _arm(axes: plt.Axes, y: int, difference: tuple[float, float, float]) -> None:
    """A difference with its interval, in points."""
    mean, low, high = (100 * value for value in difference)
    axes.plot([low, high], [y, y], color="0.5", linewidth=3, zorder=1)
    axes.plot(mean, y, "o", color="0.1", markerfacecolor="0.1" if low > 0 or high < 0 else "white", markersize=8)


def _told_apart() -> list[Line2D]:
    """The ablation's legend."""
    look = {"marker": "o", "color": "0.5", "markeredgecolor": "0.1", "linewidth": 3, "markersize": 8}
    full = Line2D([], [], markerfacecolor="0.1", label="its 95% interval leaves out 0", **look)
    return [full, Line2D([], [], markerfacecolor="white", label="cannot be told from the full method", **look)]


def _tasks(profile: str) -> list[str]:
    """The tasks of which all runs are there."""
    return list(dict.fromkeys(row["task"] for row in report.table(profile)))


def _runs(profile: str, task: str, role: str) -> list[report.Run]:
    """The seeds of a student, or the teacher behind them."""
    return report.teachers(profile, task) if role == "teacher" else report.load_students(profile, task, role)


def _scored_on(profile: str, task: str, split: str) -> str:
    """The split behind the numbers and its size."""
    run = report.load_students(profile, task, "student-distilled")[0]
    return f"scored on {report.split_name(split)} ({len(run.predictions[split][1]):,} examples)"


def _seeds(number: int) -> str:
    return f"{number} seed{'s' if number > 1 else ''}"


def _thousands(value: float, _position: int | None = None) -> str:
    """A count as the label of a tick."""
    return f"{value / 1000:,.0f}k" if value >= 1000 else f"{value:.0f}"


def _panels(number: int, height: float, **shared: bool) -> tuple[Figure, list[plt.Axes]]:
    """Panels side by side."""
    size = (9 if number > 1 else 7, height)
    figure, panels = plt.subplots(1, max(1, number), figsize=size, layout="constrained", squeeze=False, **shared)
    for axes in panels[0]:
        _plain(axes)
    return figure, list(panels[0])


def _plain(axes: plt.Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: plt.Axes) -> None:
    """One legend for all panels, under them, each name once."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), frameon=False, ncols=len(named), loc="outside lower center")
