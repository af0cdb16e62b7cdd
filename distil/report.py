"""Tables, claims and figures, read from records alone: nothing here trains, and every number shown comes through here.

``python -m distil.report readme`` rewrites the results block of README.md; ``--check`` only says whether it is up to date.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distil import metrics, paths, records
from distil.tasks import TASKS

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
BOOTSTRAP_SEED = 2019
PAPER_ROWS = {"teacher": "BERT_LARGE (Devlin et al. 2018)", "student-baseline": "BiLSTM (our implementation)"}
PAPER_ROWS["student-distilled"] = "Distilled BiLSTM_SOFT"
TEACHERS = {"packages": "MiniLM-L6", "tiny": "tiny random BERT"}


@dataclass(frozen=True)
class Run:
    """One record and the predictions beside it."""

    record: dict[str, Any]
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]

    def correct(self, split: str) -> np.ndarray:
        """Whether each example of a split was answered rightly [N]."""
        logits, labels = self.predictions[split]
        return logits.argmax(axis=1) == labels


def load_runs(profile: str, task: str, role: str, arm: str = "") -> list[Run]:
    """All seeds of one role (or of one ablation's arm), in the order of the seeds.

    Raises:
        RecordError: a record in the profile's folder says that it belongs to another profile or task.
    """
    pattern = paths.run_record(profile, task, role, 0, arm)
    runs = []
    for path in sorted(pattern.parent.glob(pattern.name.replace("seed0", "seed*"))):
        runs.append(Run(_read(path, profile, task), records.read_predictions(path)))
    return sorted(runs, key=lambda run: run.record["seed"])


def _read(path: Path, profile: str, task: str = "") -> dict[str, Any]:
    record = records.read(path)
    if (record["profile"], record.get("task", "")) != (profile, task):
        raise records.RecordError(
            f"{path.relative_to(paths.RESULTS)} says it is of {record['profile']}/{record.get('task', '')}: profiles are "
            "not mixed; move it back or delete it"
        )
    return record


def paper() -> dict[str, Any]:
    """The published numbers and claims."""
    return records.read(paths.ROOT / "results" / "paper.json")


def paper_score(task: str, role: str, metric: str = "accuracy", split: str = "dev") -> float:
    """A number of the paper's Table 1 as a fraction (GLUE test server); MNLI-mm has a column of its own."""
    row = next(row for row in paper()["table_1"]["rows"] if row["model"] == PAPER_ROWS[role])
    return row[f"{task}_mismatched" if split == "dev_mismatched" else task][metric] / 100


def mean_score(runs: list[Run], split: str, metric: str = "accuracy") -> tuple[float, float]:
    """Mean and standard deviation over seeds (0 for one seed)."""
    values = [run.record["metrics"][split][metric] for run in runs]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def difference(a: list[Run], b: list[Run], split: str) -> tuple[float, float, float]:
    """Accuracy of b minus a, with its 95% interval; a RecordError if they were not scored on the same examples."""
    labels = a[0].predictions[split][1]
    if any(not np.array_equal(run.predictions[split][1], labels) for run in (*a, *b)):
        where = f"{a[0].record['profile']}/{a[0].record['task']}"
        raise records.RecordError(f"{where}: runs have other {split} examples than each other; 'make reproduce'")
    correct = [np.stack([run.correct(split) for run in runs]) for runs in (a, b)]
    return metrics.bootstrap_difference(*correct, seed=BOOTSTRAP_SEED)


def table(profile: str) -> list[dict[str, Any]]:
    """One row a task, split and metric for which teacher, baseline and distilled student are all there; fractions."""
    rows = []
    for task, spec in TASKS.items():
        runs = {role: load_runs(profile, task, role) for role in PAPER_ROWS}
        if not all(runs.values()):
            continue
        for split in runs["teacher"][0].predictions:
            for metric in ("accuracy", "f1") if spec.f1 else ("accuracy",):
                rows.append(_row(task, split, metric, runs))
    return rows


def _row(task: str, split: str, metric: str, runs: dict[str, list[Run]]) -> dict[str, Any]:
    baseline, distilled = runs["student-baseline"], runs["student-distilled"]
    model = runs["teacher"][0].record["config"]["model"]
    row = {
        "task": task,
        "dataset": distilled[0].record["dataset"],
        "train_rows": distilled[0].record["rows"]["train"],
        "teacher_name": TEACHERS.get(model, model.partition("@")[0]),
        "split": split,
        "metric": metric,
        "seeds": [run.record["seed"] for run in distilled],
        "paper": {role: paper_score(task, role, metric, split) for role in PAPER_ROWS},
    }
    row |= {role: mean_score(role_runs, split, metric) for role, role_runs in runs.items()}
    if metric == "accuracy":
        row["gain"] = difference(baseline, distilled, split)
        row["mcnemar"] = metrics.mcnemar(baseline[0].correct(split), distilled[0].correct(split))
    else:
        row["gain"] = (row["student-distilled"][0] - row["student-baseline"][0], None, None)
    return row


def percent(value: float) -> str:
    """The one precision of every score: a tenth of a point."""
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of scores in points, signed; rounded twice so that 6.35 reads alike however it was computed."""
    return f"{round(100 * difference, 6):+.1f}"


def _spread(score: tuple[float, float], seeds: list[int]) -> str:
    return percent(score[0]) + (f" ± {percent(score[1])}" if len(seeds) > 1 else "")


def _gain(gain: tuple[float, float | None, float | None]) -> str:
    interval = "" if gain[1] is None else f" [{points(gain[1])}, {points(gain[2])}]"
    return points(gain[0]) + interval


def markdown(profile: str) -> str:
    """The table paper | ours as Markdown."""
    lines = [
        "| data, split, score | plain BiLSTM | distilled BiLSTM | gain [95%] | teacher | paper: plain → distilled, teacher |",
        "|---|---|---|---|---|---|",
    ]
    for row in table(profile):
        plain, distilled, teacher = (
            row["paper"][role] for role in ("student-baseline", "student-distilled", "teacher")
        )
        lines.append(
            f"| {row['dataset']}, {row['split']}, {row['metric']} | {_spread(row['student-baseline'], row['seeds'])} "
            f"| **{_spread(row['student-distilled'], row['seeds'])}** | {_gain(row['gain'])} "
            f"| {percent(row['teacher'][0])} ({row['teacher_name']}) | {TASKS[row['task']].title}: {percent(plain)} → "
            f"{percent(distilled)} ({points(distilled - plain)}), {percent(teacher)} |"
        )
    return "\n".join(lines)


def claims(profile: str) -> list[dict[str, str]]:
    """Each claim of the paper with its number, ours, and a verdict."""
    rows = [row for row in table(profile) if row["metric"] == "accuracy" and row["split"] == "dev"]
    verdicts = [claim for row in rows for claim in _task_claims(row)]
    return verdicts + _speed_claims(profile) + _ablation_claims(profile)


def _task_claims(row: dict[str, Any]) -> list[dict[str, str]]:
    plain, distilled, teacher = (row["paper"][role] for role in ("student-baseline", "student-distilled", "teacher"))
    gain, low, high = row["gain"]
    ceiling = row["teacher"][0] - row["student-baseline"][0]
    ours = _gain(row["gain"])
    paper_gain, title = distilled - plain, f"{TASKS[row['task']].title} / {row['dataset']}"
    if low <= paper_gain <= high:
        size = "reproduced: the paper's gain lies in our interval"
    else:
        size = f"{'larger' if gain > paper_gain else 'smaller'} than the paper's"
    return [
        _claim("The distilled student gains over the plain BiLSTM", title, points(paper_gain), ours,
               _sign_verdict(low, high)),
        _claim("The gain is of the paper's size", title, points(paper_gain), ours, size),
        _claim("It closes part of the gap to the teacher", title, f"{paper_gain / (teacher - plain):.0%} of the gap",
               f"{gain / ceiling:.0%} of the gap" if ceiling > 0 else "no gap",
               "reproduced" if low > 0 < ceiling else "not reproduced"),
    ]  # fmt: skip


def _sign_verdict(low: float, high: float) -> str:
    """Whether a difference that the paper says is positive is so in our interval."""
    if low > 0:
        return "reproduced"
    return "not reproduced: " + ("the other way round" if high < 0 else "the interval includes 0")


def _claim(claim: str, where: str, published: str, ours: str, verdict: str) -> dict[str, str]:
    return {"claim": claim, "where": where, "paper": published, "ours": ours, "verdict": verdict}


def _speed_claims(profile: str) -> list[dict[str, str]]:
    path = paths.RESULTS / "speed" / f"{profile}.json"
    record = _read(path, profile) if path.exists() else {"models": []}
    models = {row["name"]: row for row in record["models"]}
    if not {"bert-large", "student"} <= set(models):
        return []
    large, student = models["bert-large"], models["student"]
    published = paper()["table_2"]["rows"][0]
    size, fair = (large["n_params"]["total"] / student["n_params"][key] for key in ("non_embedding", "total"))
    slower = student["sentences_per_second"] / large["sentences_per_second"]
    # The paper divides by 0.96 million, which is rounded to 1 in 96.
    agrees = abs(size / published["times_larger"] - 1) < 1 / 96
    return [
        _claim("BERT_LARGE's parameters to those of Table 2's student without embeddings", "Table 2",
               f"{published['times_larger']}x", f"{size:.0f}x",
               f"{'' if agrees else 'not '}reproduced; counting the student's word vectors too it is {fair:.0f}x"),
        _claim("BERT_LARGE's inference time to that of Table 2's student", "Table 2", f"{published['times_slower']}x",
               f"{slower:.0f}x", f"not comparable: {record['device']} against the paper's V100"),
    ]  # fmt: skip


def missing(profile: str) -> list[str]:
    """What the report has to leave out for want of records, one line each; nothing is left out silently."""
    shown = {row["task"] for row in table(profile)}
    lines = [f"{task}: not all of {', '.join(PAPER_ROWS)}" for task in TASKS if task not in shown]
    lines += [] if _speed_claims(profile) else ["Table 2: no speed record with both BERT_LARGE and the student"]
    return lines + ([] if _ablation_claims(profile) else ["ablation: no arm beside the full method"])


def ablation(profile: str, task: str = "sst2") -> list[dict[str, Any]]:
    """Rows (name, dev score, test score, difference to the distilled student on dev) of the full method and of each arm."""
    full = load_runs(profile, task, "student-distilled")
    folder = paths.RESULTS / "ablation" / profile / task
    arms = sorted({path.stem.rpartition("-seed")[0] for path in folder.glob("*.json")})
    rows = []
    for name, runs in [("plain", load_runs(profile, task, "student-baseline")), ("full", full)] + [
        (arm, load_runs(profile, task, "student-distilled", arm)) for arm in arms
    ]:
        if runs and full:
            scores = {split: mean_score(runs, split) for split in runs[0].predictions}
            rows.append({"name": name, "scores": scores, "difference": difference(full, runs, "dev")})
    return rows


def _ablation_claims(profile: str) -> list[dict[str, str]]:
    texts = {
        "real-only": ("Synthetic examples help: real ones alone are worse", "Section 3.3"),
        "hard-labels": ("Logits teach better than labels: alpha = 0 against alpha = 1", "Section 3.2"),
    }
    found = {row["name"]: row for row in ablation(profile)}
    return [
        _claim(*texts[name], "worse", _gain(found[name]["difference"]),
               _sign_verdict(-found[name]["difference"][2], -found[name]["difference"][1]))
        for name in texts if name in found
    ]  # fmt: skip


# --- README -----------------------------------------------------------------------------------------------------------


def readme_block(profile: str) -> str:
    """What stands between the two marks in README.md."""
    rows = table(profile)
    if not rows:
        raise records.RecordError(f"no task of profile {profile} is complete: make reproduce PROFILE={profile}")
    teachers, seeds = (", ".join(sorted({str(row[key]) for row in rows})) for key in ("teacher_name", "seeds"))
    sizes = ", ".join(f"{row['dataset']} {row['train_rows']:,}" for row in {row["task"]: row for row in rows}.values())
    caption = (
        f"Percent; profile `{profile}`, teacher {teachers}, student seeds {seeds}; training examples: {sizes}. Dev chose the "
        "epoch; test was used for nothing. The paper's numbers are of the GLUE test server, with BERT_LARGE, on SST-2, QQP and "
        "MNLI: read gains, not levels, across the two. The interval is a bootstrap over examples and seeds."
    )
    return f"{BEGIN}\n{markdown(profile)}\n\n{caption}\n{END}"


def write_readme(profile: str, path: Path, check: bool = False) -> bool:
    """Bring the block up to date (or only look, with ``check``); returns whether it was up to date."""
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    if not rest or END not in rest:
        raise records.RecordError(f"{path.name} has no block between {BEGIN} and {END}")
    wanted = head + readme_block(profile) + tail
    if wanted != text and not check:
        path.write_text(wanted, encoding="utf-8")
    return wanted == text


def write_report(profile: str, name: str, content: dict[str, Any]) -> None:
    """A report of the notebooks 06 and 07: ``results/report/<name>.json``."""
    path = paths.RESULTS / "report" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"profile": profile} | content, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m distil.report", description="Write the results table of README.md."
    )
    parser.add_argument("what", choices=["readme"])
    parser.add_argument("--profile", default="offline")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if README.md is not up to date")
    options = parser.parse_args(arguments)
    try:
        current = write_readme(options.profile, paths.ROOT / "README.md", options.check)
    except records.RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check and not current:
        print("README.md does not show the committed records: run 'python -m distil.report readme'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
