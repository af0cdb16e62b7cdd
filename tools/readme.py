"""Writes the results of README.md and docs/results.md, and their figure, from the records."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

import numpy as np

from distil import config, figures, metrics, records, report
from distil.report import Results

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PROFILES = ("glue", "offline")
WHEN = {"batch": "batches of 512", "best": "each at its best batch", "single": "one sentence"}
NOTE = """The paper's numbers are from the GLUE test server, with BERT_LARGE and all of GLUE's rows:
compare gains, not levels. A ± is the standard deviation over seeds. Intervals are a bootstrap over
examples and seeds. Dev chose the teacher's epoch. A test split was never used for any decision."""


def short(all_results: Sequence[Results]) -> str:
    """Return README's table: the rows of the first profile that verdicts are taken from."""
    lines = []
    for row in (row for row in report.table(all_results[0]) if row["verdict_split"]):
        title, paper = config.task(row["task"]).title, row["paper"]
        line = {"": f"{title} {row['split']}, {row['metric']}", "plain": str(row["plain"])}
        line |= {"distilled": f"**{row['distilled']}**", "gain [95%]": str(row["gain"])}
        line["paper's gain"] = report.points(paper["distilled"].mean - paper["plain"].mean)
        name = "" if row["arm"] == config.MAIN else f" ({row['teacher_name']})"
        lines.append(line | {"teacher": f"{row['teacher']}{name}"})
    return report.grid(lines)


def full(all_results: Sequence[Results]) -> str:
    """Return the tables of docs/results.md: scores and verdicts, then what the logits also say."""
    parts = [NOTE]
    for results in (results for results in all_results if results.tasks()):
        rows = report.table(results)
        sizes = {row["dataset"]: f"{row['train_rows']:,}" for row in rows}
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        parts.append(f"## Profile `{results.profile}`\n\nTraining rows: {told}.")
        parts += [
            report.grid([report.shown(row) for row in rows]),
            report.grid(report.verdicts(results)),
        ]
        parts.append("### Certainty, and equal steps")
        parts.append(
            report.grid([line for task in results.tasks() for line in certainty(results, task)])
        )
    lines = [line for results in all_results for line in table_2(results)]
    parts += ["## The paper's Table 2", report.grid(lines)]
    parts += ["## What others report on SST-2", report.grid(others(all_results[0]))]
    search = json.loads((records.RESULTS / "search.json").read_text("utf-8"))
    parts += ["## What was tried on the student", *search["rule"], report.grid(tried(search))]
    return "\n\n".join(parts)


def certainty(results: Results, task: str) -> list[dict[str, str]]:
    """Return calibration, fallback to the teacher and equal steps of a task.

    The margin below which the teacher is asked is one that 30% of dev has, on whatever split.
    """
    models, same = results.models(task), report.equal_steps(results, task) or {}
    row, lines = [row for row in report.table(results) if row["task"] == task][-1], []
    split, gold = row["split"], models["teacher"][0].predictions[row["split"]]
    for name, runs in models.items():
        found = []
        for run in runs:
            logits, labels = run.predictions[split]
            limit = np.quantile(metrics.margin(run.predictions["dev"][0]), 0.3)
            asked = int((metrics.margin(logits) <= limit).sum())
            error, curve = (
                metrics.calibration_error(logits, labels),
                metrics.fallback(logits, *gold),
            )
            found.append((error, curve[0], asked / len(labels), curve[asked]))
        error, alone, asked, mixed = (f"{100 * value:.1f}" for value in np.mean(found, axis=0))
        line = {"data, split": f"{row['dataset']}, {split}", "model": name, "accuracy": alone}
        line |= {"calibration error": error}
        if name != "teacher":
            line |= {"asks the teacher": f"{asked}%", "accuracy then": mixed}
            line |= {"dev, equal steps": f"{100 * same[name]:.1f}" if same else ""}
        lines.append(line)
    return lines


def table_2(results: Results) -> list[dict[str, str]]:
    """Return how many times larger and slower than the student each large model is."""
    (speed,) = results.runs.get(("", "", "speed"), [report.Run({"models": []}, {})])
    models, lines = {row["name"]: row for row in speed.record["models"]}, []
    large = zip(("bert-large", "elmo"), results.paper["table_2"]["rows"], strict=False)
    for model, paper in ((models.get(name), paper) for name, paper in large):
        if model and (student := models.get("student")):
            total, own = model["n_params"]["total"], student["n_params"]
            ratio = student["sentences_per_second"] / model["sentences_per_second"]
            ranges = model.get("slower", {"batch": [ratio, ratio, ratio]})
            line = {"against the student": f"{paper['model']}, profile {results.profile}"}
            line["parameters: paper"] = f"{paper['times_larger']}x"
            line["ours"] = f"{total / own['non_embedding']:.0f}x"
            line["ours, with word vectors"] = f"{total / own['total']:.0f}x"
            line["time: paper, one V100"] = f"{paper['times_slower']}x"
            for kind, (low, _, high) in ranges.items():
                times = f"{high:.0f}x" if low == high else f"{low:.0f} to {high:.0f}x"
                line[f"time: ours, {WHEN[kind]}"] = times
            line["on"] = speed.record["device"]
            lines.append(line)
    return lines


def rewrite(text: str, body: str) -> str:
    """Return a page with a new results block; a RecordError says that it has no such block."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise records.RecordError(f"wanted {BEGIN} ... {END}; write these two lines into the page")
    return f"{head}{begin}\n{body}\n{end}{tail}"


def others(results: Results) -> list[dict[str, str]]:
    """Return what public students and floors reach on SST-2."""
    names = {"model": "model", "score": "score", "scored_on": "scored on", "taught": "taught by"}
    found = results.paper["others_on_sst2"]
    return [{title: str(row[key]) for key, title in names.items()} for row in found]


def tried(search: dict) -> list[dict[str, str]]:
    """Return the best held-out score of each run, its dev score then, and its test score if any."""
    lines, base = [], search["runs"][0]["settings"]
    for run in search["runs"]:
        changes = [f"`{k} = {v}`" for k, v in run["settings"].items() if v != base.get(k)]
        best = max(range(len(run["dev"])), key=run["held_out"].__getitem__)
        line = {"judge": run["judge"], "changes": ", ".join(changes) or "none: the base"}
        line |= {"seed": str(run["seed"]), "epochs": str(len(run["dev"]))}
        line |= {"held out": f"{run['held_out'][best]:.1f}", "dev then": f"{run['dev'][best]:.1f}"}
        line["test"] = f"{run['test']:.1f}" if "test" in run else ""
        lines.append(line)
    return lines


PAGES: dict[str, Callable[[Sequence[Results]], str]] = {"README.md": short, "docs/results.md": full}


def main() -> int:
    """Rewrite the pages, or with ``--check`` only say whether their blocks are up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if one is stale")
    check, stale = parser.parse_args().check, []
    all_results = [report.load(profile) for profile in PROFILES]
    for name, body in PAGES.items():
        page = config.ROOT / name
        old = page.read_text("utf-8")
        if (text := rewrite(old, body(all_results))) != old:
            stale.append(name)
            if not check:
                records.write_whole(page, text)
    if not check:
        figures.gains(*all_results).savefig(records.RESULTS / "figures" / "gains.png")
    elif stale:
        print(f"{', '.join(stale)} not up to date: run 'python tools/readme.py'", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
