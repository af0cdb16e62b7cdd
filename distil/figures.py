"""The figures of the report, drawn from records alone; grey shades and marker shapes carry the meaning, not colours."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from distil.metrics import reliability
from distil.report import PAPER_ROWS, by_size, dataset, load_students, mean_score, points, table, teachers
from distil.tasks import TASKS


def gains(profile: str) -> Figure:
    """Plain BiLSTM -> distilled BiLSTM, and the teacher above it, the paper's tasks beside ours."""
    rows = [row for row in table(profile) if row["metric"] == "accuracy" and row["judged"]]
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    ticks = []
    for i, row in enumerate(rows):
        ours = {role: row[role][0] for role in PAPER_ROWS}
        title = f"{TASKS[row['task']].title}\npaper, test server"
        columns = [(3 * i, row["paper"], title), (3 * i + 1.3, ours, f"{row['dataset']}\nours, {row['split']}")]
        for x, scores, label in columns if row["paper"] else columns[1:]:
            ticks.append((x, label))
            _dumbbell(axes, x, {role: 100 * score for role, score in scores.items()}, first=not ticks[:-1])
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    axes.set(title="The same BiLSTM, taught by labels and taught by BERT", ylabel="accuracy (%)")
    axes.margins(x=0.07, y=0.08)
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _dumbbell(axes: plt.Axes, x: float, scores: dict[str, float], first: bool) -> None:
    plain, distilled, teacher = (scores[role] for role in ("student-baseline", "student-distilled", "teacher"))
    names = ("plain BiLSTM", "distilled BiLSTM", "its teacher") if first else ("_", "_", "_")
    axes.annotate(
        "", (x, distilled), (x, plain), arrowprops={"arrowstyle": "-|>", "color": "0.2", "shrinkA": 4, "shrinkB": 5}
    )
    axes.plot(x, plain, "o", color="white", markeredgecolor="0.2", markersize=9, label=names[0])
    axes.plot(x, distilled, "o", color="0.2", markersize=9, label=names[1])
    axes.plot([x - 0.3, x + 0.3], [teacher, teacher], color="0.55", linewidth=3, label=names[2])
    middle = (x, (plain + distilled) / 2)
    axes.annotate(points((distilled - plain) / 100), middle, textcoords="offset points", xytext=(10, -4), weight="bold")


def curves(profile: str) -> Figure:
    """Dev accuracy after each epoch, baseline against distilled, one panel a task."""
    tasks = list(dict.fromkeys(row["task"] for row in table(profile)))
    figure, panels = plt.subplots(1, max(1, len(tasks)), figsize=(10, 3.2), layout="constrained", squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=False):
        for role, style in (("student-baseline", "o--"), ("student-distilled", "o-")):
            for number, run in enumerate(load_students(profile, task, role)):
                shade = "0.6" if role == "student-baseline" else "0.15"
                history = 100 * np.array(run.record["history"])
                axes.plot(range(1, len(history) + 1), history, style, color=shade, label="_" * bool(number) + role)
        teacher = 100 * mean_score(teachers(profile, task), "dev")[0]
        axes.axhline(teacher, color="0.55", linewidth=2, linestyle=":", label="teacher")
        axes.set(title=dataset(profile, task), xlabel="epoch (of its own training set)")
    panels[0][0].set_ylabel("dev accuracy (%)")
    panels[0][-1].legend(frameon=False, fontsize=8)
    return figure


def calibration(profile: str) -> Figure:
    """How often each model is right against how sure it says it is, in ten bins of equally many dev examples, a panel a task."""
    tasks = list(dict.fromkeys(row["task"] for row in table(profile)))
    figure, panels = plt.subplots(1, max(1, len(tasks)), figsize=(10, 3.4), layout="constrained", squeeze=False)
    styles = {"teacher": ("s:", "0.55"), "student-baseline": ("o--", "0.6"), "student-distilled": ("o-", "0.15")}
    for axes, task in zip(panels[0], tasks, strict=False):
        for role, (style, shade) in styles.items():
            runs = teachers(profile, task) if role == "teacher" else load_students(profile, task, role)
            sure, right = reliability(*runs[0].predictions["dev"])
            axes.plot(100 * sure, 100 * right, style, color=shade, markersize=4, label=role)
        axes.plot([40, 100], [40, 100], color="0.8", linewidth=1, zorder=0)
        axes.set(title=dataset(profile, task), xlabel="how sure it says it is (%)")
    panels[0][0].set_ylabel("how often it is right (%)")
    panels[0][-1].legend(frameon=False, fontsize=8)
    return figure


def size_curve(profile: str, task: str = "sst2") -> Figure:
    """Dev accuracy of the distilled student against the number of examples it learned from, with 95% intervals."""
    rows = by_size(profile, task)
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    sizes = [row["examples"] for row in rows]
    means, lows, highs = (100 * np.array([row["score"][i] for row in rows]) for i in range(3))
    axes.errorbar(sizes, means, yerr=[means - lows, highs - means], fmt="o-", color="0.15", ecolor="0.6", capsize=3)
    split = rows[-1]["split"]
    of_teacher = 100 * mean_score(teachers(profile, task), split.removesuffix("_untouched"))[0]
    axes.axhline(of_teacher, color="0.55", linewidth=2, linestyle=":", label="teacher")
    axes.set(xscale="log", title=f"{dataset(profile, task)}: more synthetic sentences, a better student?")
    axes.set(xlabel="examples in the transfer set", ylabel=f"{split} accuracy (%)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def ablation_arms(profile: str, rows: dict[str, list[dict[str, Any]]]) -> Figure:
    """Difference of each arm to the full method with its 95% interval, one panel a task of ``report.ablation``."""
    rows = {task: [row for row in found if row["name"] != "full"] for task, found in rows.items()}
    heights = [len(found) for found in rows.values()]
    figure, panels = plt.subplots(
        len(rows), 1, figsize=(7.5, 1.4 * len(rows) + 0.36 * sum(heights)), layout="constrained", squeeze=False, sharex=True,
        height_ratios=[height + 1.2 for height in heights],
    )  # fmt: skip
    for axes, (task, found) in zip(panels[:, 0], rows.items(), strict=True):
        for y, row in enumerate(reversed(found)):
            mean, low, high = (100 * value for value in row["difference"])
            axes.plot([low, high], [y, y], color="0.5", linewidth=3)
            axes.plot(mean, y, "o", color="0.1", markersize=8)
        axes.axvline(0, color="0.3", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(found)), [row["name"] for row in reversed(found)])
        axes.set_title(dataset(profile, task), loc="left", fontsize=10)
        axes.margins(y=0.6 / max(1, len(found)) + 0.05)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Each part left out or exchanged: left of 0 is worse than the full method")
    panels[-1, 0].set_xlabel(f"{found[0]['split']} accuracy minus the full method's (points)")
    return figure
