"""The figures of the report, drawn from records alone; grey shades and marker shapes carry the meaning, not colours."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from distil import config
from distil.metrics import reliability
from distil.report import PAPER_ROWS, by_size, dataset, load_students, mean_score, points, split_name, table, teachers
from distil.tasks import TASKS

# role -> its name on every figure, marker with line, shade
LOOKS = {
    "student-baseline": ("plain BiLSTM", "o--", "0.6"),
    "student-distilled": ("distilled BiLSTM", "o-", "0.15"),
    "teacher": ("its teacher", "s:", "0.45"),
}


def gains(profile: str) -> Figure:
    """Plain BiLSTM -> distilled BiLSTM, and the teacher above it, the paper's tasks beside ours."""
    rows = [row for row in table(profile) if row["metric"] == "accuracy" and row["judged"]]
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    ticks = []
    for i, row in enumerate(rows):
        ours = {role: row[role][0] for role in PAPER_ROWS}
        title = f"{TASKS[row['task']].title}\npaper, test server"
        columns = [
            (3 * i, row["paper"], title),
            (3 * i + 1.3, ours, f"{row['dataset']}\nours, {split_name(row['split'])}"),
        ]
        for x, scores, label in columns if row["paper"] else columns[1:]:
            ticks.append((x, label.replace(", epoch", ",\nepoch")))
            interval = row["gain"][1:] if scores is ours else None
            _dumbbell(axes, x, {role: 100 * score for role, score in scores.items()}, interval, first=not ticks[:-1])
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    axes.set(title="The same BiLSTM, taught by labels and taught by BERT", ylabel="accuracy (%)")
    axes.margins(x=0.07, y=0.08)
    _legend(figure, axes)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _dumbbell(
    axes: plt.Axes, x: float, scores: dict[str, float], interval: tuple[float, float] | None, first: bool
) -> None:
    """Both students and the teacher; ``interval``: of the gain, drawn beside the distilled student as plain + gain."""
    plain, distilled, teacher = (scores[role] for role in ("student-baseline", "student-distilled", "teacher"))
    names = [LOOKS[role][0] for role in ("student-baseline", "student-distilled", "teacher")] if first else ["_"] * 3
    axes.plot([x, x], [plain, distilled], color="0.2", linewidth=1.5, zorder=1)
    axes.plot(x, plain, "o", color="white", markeredgecolor="0.2", markersize=9, label=names[0])
    axes.plot(x, distilled, "o", color="0.2", markersize=9, label=names[1])
    axes.plot([x - 0.3, x + 0.3], [teacher, teacher], color="0.55", linewidth=3, label=names[2])
    if interval:
        low, high = (plain + 100 * value for value in interval)
        axes.plot([x - 0.22] * 2, [low, high], color="0.55", linewidth=1.5, marker="_", markersize=7)
    middle = (x, (plain + distilled) / 2)
    axes.annotate(points((distilled - plain) / 100), middle, textcoords="offset points", xytext=(10, -4), weight="bold")


def curves(profile: str) -> Figure:
    """Dev accuracy after each epoch against training steps, a line a seed, a ring at the epoch that dev chose; a panel a task."""
    tasks = list(dict.fromkeys(row["task"] for row in table(profile)))
    figure, panels = _panels(len(tasks), 3.6)
    for axes, task in zip(panels, tasks, strict=False):
        for role in ("student-baseline", "student-distilled"):
            name, style, shade = LOOKS[role]
            for number, run in enumerate(load_students(profile, task, role)):
                history = 100 * np.array(run.record["history"])
                steps = run.record["steps"] / len(history) * np.arange(1, len(history) + 1)
                chosen, line = int(history.argmax()), style[1:]
                axes.plot(steps, history, line, color=shade, linewidth=1.2, label=name if not number else "_")
                axes.plot(steps[chosen], history[chosen], "o", color=shade, markerfacecolor="none", markersize=9)
        teacher = 100 * mean_score(teachers(profile, task), "dev")[0]
        axes.axhline(teacher, color="0.45", linewidth=1.5, linestyle=":", label=LOOKS["teacher"][0])
        axes.set(title=dataset(profile, task), xlabel="training steps", xscale="log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(plt.NullFormatter())
    panels[0].set_ylabel("dev accuracy (%)")
    _legend(figure, panels[0])
    figure.suptitle("How far each student gets with how many steps (ring: the epoch that dev chose)", fontsize=11)
    return figure


def _panels(number: int, height: float) -> tuple[Figure, list[plt.Axes]]:
    """Panels side by side."""
    width = 10 if number > 1 else 7
    figure, panels = plt.subplots(1, max(1, number), figsize=(width, height), layout="constrained", squeeze=False)
    for axes in panels[0]:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels[0])


def _legend(figure: Figure, axes: plt.Axes) -> None:
    """One legend for all panels, under them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside lower center", fontsize=9)


def calibration(profile: str) -> Figure:
    """How often each model is wrong against how unsure it says it is, in ten bins of equally many dev examples; a panel a task.

    Logarithmic, since most answers are given with a confidence of over 95%; below 0.1% is drawn at 0.1%. The panel's title has
    each model's expected calibration error (Naeini et al. 2015): the mean distance of the bins from the diagonal, in points.
    """
    tasks = list(dict.fromkeys(row["task"] for row in table(profile)))
    figure, panels = _panels(len(tasks), 4.0)
    for axes, task in zip(panels, tasks, strict=False):
        errors = []
        for role in ("teacher", "student-baseline", "student-distilled"):
            name, style, shade = LOOKS[role]
            runs = teachers(profile, task) if role == "teacher" else load_students(profile, task, role)
            sure, right = reliability(*runs[0].predictions["dev"])
            errors.append(f"{name} {100 * np.abs(sure - right).mean():.1f}")
            unsure, wrong = np.maximum(100 * (1 - sure), 0.1), np.maximum(100 * (1 - right), 0.1)
            axes.plot(unsure, wrong, style, color=shade, markersize=5, label=name)
        axes.plot([0.1, 60], [0.1, 60], color="0.8", linewidth=1, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="says that it may be wrong (%)")
        axes.set_title(f"{dataset(profile, task)}\n" + "\n".join(errors), fontsize=9)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
    panels[0].set_ylabel("is wrong (%)")
    _legend(figure, panels[0])
    figure.suptitle(
        "Does it know when it errs? Above the diagonal: overconfident (calibration error in points)", fontsize=11
    )
    return figure


def size_curve(profile: str, task: str = "sst2") -> Figure:
    """Accuracy of the distilled student against the number of examples it learned from, with 95% intervals."""
    rows = by_size(profile, task)
    figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    sizes = [row["examples"] for row in rows]
    means, lows, highs = (100 * np.array([row["score"][i] for row in rows]) for i in range(3))
    axes.errorbar(sizes, means, yerr=[means - lows, highs - means], fmt="o-", color="0.15", ecolor="0.6", capsize=3)
    split = rows[-1]["split"]
    plain = 100 * mean_score(load_students(profile, task, "student-baseline"), split)[0]
    of_teacher = 100 * mean_score(teachers(profile, task), split.removesuffix("_untouched"))[0]
    for score, role, line in ((of_teacher, "teacher", ":"), (plain, "student-baseline", "--")):
        axes.axhline(score, color="0.45", linewidth=1.5, linestyle=line, label=LOOKS[role][0])
    axes.set(xscale="log", title=f"{dataset(profile, task)}: more synthetic sentences, a better student?")
    axes.set(xlabel="examples in the transfer set", ylabel=f"accuracy on {split_name(split)} (%)")
    axes.set_xticks(sizes, [f"{size / 1000:,.0f}k" for size in sizes])
    axes.xaxis.set_minor_locator(plt.NullLocator())
    _legend(figure, axes)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def ablation_arms(profile: str, rows: dict[str, list[dict[str, Any]]]) -> Figure:
    """Difference of each arm to the full method with its 95% interval, one panel a task of ``report.ablation``.

    Arms are grouped by the stage that they change; a full point is a difference that the split can tell from none.
    """
    rows = {task: _grouped(profile, found) for task, found in rows.items()}
    heights = [len(found) for found in rows.values()]
    figure, panels = plt.subplots(
        len(rows), 1, figsize=(7.5, 1.5 * len(rows) + 0.36 * sum(heights)), layout="constrained", squeeze=False, sharex=True,
        height_ratios=[height + 1.2 for height in heights],
    )  # fmt: skip
    for axes, (task, found) in zip(panels[:, 0], rows.items(), strict=True):
        for y, row in enumerate(reversed(found)):
            mean, low, high = (100 * value for value in row["difference"])
            told = low > 0 or high < 0
            axes.plot([low, high], [y, y], color="0.5", linewidth=3, zorder=1)
            axes.plot(mean, y, "o", color="0.1" if told else "white", markeredgecolor="0.1", markersize=8)
        axes.axvline(0, color="0.3", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(found)), [row["label"] for row in reversed(found)])
        axes.set_title(f"{dataset(profile, task)}, {split_name(found[0]['split'])}", loc="left", fontsize=10)
        axes.margins(y=0.6 / max(1, len(found)) + 0.05)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Each part left out or exchanged: left of 0 is worse than the full method")
    panels[-1, 0].set_xlabel("accuracy minus the full method's (points); filled: its interval leaves out 0")
    return figure


def _grouped(profile: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows but for the full method, by the stage that they change, each with a label that says the stage and its seeds."""
    stages, arms = ("", "teacher", "transfer_set", "student"), config.arms(profile)
    labelled = []
    for row in (row for row in rows if row["name"] != "full"):
        stage = arms[row["name"]].stage if row["name"] in arms else ""
        seeds = f"{len(row['seeds'])} seed{'s' if len(row['seeds']) > 1 else ''}"
        about = f"{stage.replace('_', ' ')}, {seeds}" if stage else seeds
        labelled.append(row | {"label": f"{row['name']} ({about})", "stage": stages.index(stage)})
    return sorted(labelled, key=lambda row: row["stage"])
