"""Tables read from records alone: nothing here trains, and every number shown comes through here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distil import config, metrics, paths, records
from distil.tasks import TASKS

BOOTSTRAP_SEED = 2019
PAPER_ROWS = {"teacher": "BERT_LARGE (Devlin et al. 2018)", "student-baseline": "BiLSTM (our implementation)"}
PAPER_ROWS["student-distilled"] = "Distilled BiLSTM_SOFT"
SPLITS = {"dev_untouched": "dev, epoch chosen on held-out train"}  # split -> its name on a page, where it has another
TEACHERS = {"packages": "MiniLM-L6", "packages-mpnet": "MPNet-base", "tiny": "tiny random BERT"}


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
        runs.append(Run(read(path, profile, task), records.read_predictions(path)))
    return sorted(runs, key=lambda run: run.record["seed"])


def teachers(profile: str, task: str, arm: str = "") -> list[Run]:
    """The teacher behind the students of a task, or behind an arm's if it has its own."""
    reference = _reference(profile, task)
    seed = reference.record.get("teacher_seed", 0) if reference else 0
    own = load_runs(profile, task, "teacher", arm) if arm else []
    return [run for run in own or load_runs(profile, task, "teacher") if run.record["seed"] == seed]


def load_students(profile: str, task: str, role: str, arm: str = "") -> list[Run]:
    """The seeds of a student that may be compared with the others of its task; ``left_out`` counts those that may not.

    All must have been given the same data; all seeds the same config, an arm that of the full method with its own change; and
    a distilled student the transfer set on record, labelled by the one teacher on record.
    """
    reference, runs = _reference(profile, task), load_runs(profile, task, role, arm)
    if reference is None or not runs:
        return []
    if role == "student-baseline":
        config_of_all, sets = runs[0].record["config"], {None}
    else:
        changes = config.arms(profile)[arm].changes_of("student") if arm else {}
        config_of_all = reference.record["config"] | records.nameless(changes)
        sets = _sets_on_record(profile, task, arm)
    return [
        run for run in runs
        if run.record["config"] == config_of_all
        and _of(run, "data/") == _of(reference, "data/")
        and run.record["inputs"].get("transfer-set") in sets
        and (role == "student-baseline" or run.record.get("teacher_seed") == reference.record.get("teacher_seed"))
    ]  # fmt: skip


def left_out(profile: str, task: str, role: str = "student-distilled", arm: str = "") -> int:
    """Seeds of a student that may not be compared: of another config, data, teacher or transfer set than the others."""
    return len(load_runs(profile, task, role, arm)) - len(load_students(profile, task, role, arm))


def _reference(profile: str, task: str) -> Run | None:
    """The full method's first seed that learned from a transfer set on record: what the other students must agree with."""
    sets = _sets_on_record(profile, task)
    runs = load_runs(profile, task, "student-distilled")
    return next((run for run in runs if run.record["inputs"].get("transfer-set") in sets), None)


def _sets_on_record(profile: str, task: str, arm: str = "") -> set[str | None]:
    """Digests of the transfer sets (an arm's own, else the main ones) that the teacher on record labelled."""
    own = {role: load_runs(profile, task, role, arm) if arm else [] for role in ("teacher", "transfer-set")}
    runs = {role: found or load_runs(profile, task, role) for role, found in own.items()}
    outputs = [{f"teacher/{file}": sha for file, sha in run.record["outputs"].items()} for run in runs["teacher"]]
    return {
        run.record["outputs"].get("transfer-set") for run in runs["transfer-set"] if _of(run, "teacher/") in outputs
    }


def _of(run: Run, kind: str) -> dict[str, str]:
    return {name: sha for name, sha in run.record["inputs"].items() if name.startswith(kind)}


def _splits_of_all(runs: Sequence[Run]) -> list[str]:
    """The splits that every run has answers on, in the order of the first."""
    return [split for split in runs[0].predictions if all(split in run.predictions for run in runs)]


def judged(runs: Sequence[Run]) -> str:
    """The split that verdicts are taken from: the one with the least part in any choice that all runs have."""
    return next(split for split in ("test", "dev_untouched", "dev") if all(split in run.predictions for run in runs))


def read(path: Path, profile: str, task: str = "") -> dict[str, Any]:
    """A record of this profile and task.

    Raises:
        RecordError: it says that it is of another.
    """
    record = records.read(path)
    if (record["profile"], record.get("task", "")) != (profile, task):
        raise records.RecordError(
            f"{path.relative_to(paths.RESULTS)} says it is of {record['profile']}/{record.get('task', '')}: profiles are "
            "not mixed; move it back or delete it"
        )
    return record


def paper() -> dict[str, Any]:
    """The published numbers and claims."""
    return json.loads((paths.ROOT / "results" / "paper.json").read_text(encoding="utf-8"))


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
        runs = {role: load_students(profile, task, role) for role in PAPER_ROWS if role != "teacher"}
        both = set.intersection(*({run.record["seed"] for run in found} for found in runs.values()))
        runs = {role: [run for run in found if run.record["seed"] in both] for role, found in runs.items()}
        runs |= {"teacher": teachers(profile, task)}
        if not all(runs.values()):
            continue
        for split in _splits_of_all([*runs["student-baseline"], *runs["student-distilled"]]):
            for metric in ("accuracy", "f1") if spec.f1 else ("accuracy",):
                rows.append(_row(task, split, metric, runs))
    return rows


def _row(task: str, split: str, metric: str, runs: dict[str, list[Run]]) -> dict[str, Any]:
    baseline, distilled = runs["student-baseline"], runs["student-distilled"]
    row = {
        "task": task,
        "dataset": distilled[0].record["dataset"],
        "train_rows": distilled[0].record["rows"]["train"],
        "teacher_name": teacher_name(runs["teacher"][0]),
        "split": split,
        "judged": split == judged([*baseline, *distilled]),
        "metric": metric,
        "seeds": [run.record["seed"] for run in distilled],
        "paper": {role: paper_score(task, role, metric, split) for role in PAPER_ROWS} if TASKS[task].in_paper else {},
    }
    # Of a teacher there is one dev score: it was tuned on dev.
    splits = {role: split.removesuffix("_untouched") if role == "teacher" else split for role in runs}
    row |= {role: mean_score(role_runs, splits[role], metric) for role, role_runs in runs.items()}
    if metric == "accuracy":
        row["gain"] = difference(baseline, distilled, split)
        row["mcnemar"] = metrics.mcnemar(baseline[0].correct(split), distilled[0].correct(split))
    else:
        row["gain"] = (row["student-distilled"][0] - row["student-baseline"][0], None, None)
    return row


def teacher_name(run: Run) -> str:
    """What a teacher is called in tables and cards."""
    model = run.record["config"]["model"]
    return TEACHERS.get(model, model.partition("@")[0])


def percent(value: float) -> str:
    """The one precision of every score: a tenth of a point."""
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of scores in points, signed; rounded twice so that 6.35 reads alike however it was computed."""
    return f"{round(100 * difference, 6):+.1f}"


def spread(score: tuple[float, float], seeds: list[int]) -> str:
    """A mean score, with its standard deviation if there are several seeds."""
    return percent(score[0]) + (f" ± {percent(score[1])}" if len(seeds) > 1 else "")


def gain(difference: tuple[float, float | None, float | None]) -> str:
    """A difference in points with its interval, if there is one."""
    mean, low, high = difference
    return points(mean) + ("" if low is None else f" [{points(low)}, {points(high)}]")


def markdown(profile: str) -> str:
    """The table paper | ours as Markdown."""
    lines = [
        "| data, split, score | plain BiLSTM | distilled BiLSTM | gain [95%] | teacher | paper: plain → distilled, teacher |",
        "|---|---|---|---|---|---|",
    ]
    for row in table(profile):
        lines.append(
            f"| {row['dataset']}, {split_name(row['split'])}, {row['metric']} | {spread(row['student-baseline'], row['seeds'])} "
            f"| **{spread(row['student-distilled'], row['seeds'])}** | {gain(row['gain'])} "
            f"| {percent(row['teacher'][0])} ({row['teacher_name']}) | {_published(row)} |"
        )
    return "\n".join(lines)


def split_name(split: str) -> str:
    """A split as pages call it."""
    return SPLITS.get(split, split)


def _published(row: dict[str, Any]) -> str:
    """The paper's own numbers for a row of the table, if it has any."""
    if not row["paper"]:
        return "not in the paper"
    plain, distilled, teacher = (row["paper"][role] for role in ("student-baseline", "student-distilled", "teacher"))
    title, paper_gain = TASKS[row["task"]].title, points(distilled - plain)
    return f"{title}: {percent(plain)} → {percent(distilled)} ({paper_gain}), {percent(teacher)}"


def students_of(profile: str, task: str, name: str) -> list[Run]:
    """The runs behind a row of ``ablation``: ``plain``, ``full``, or the name of an arm."""
    role = "student-baseline" if name == "plain" else "student-distilled"
    return load_students(profile, task, role, "" if name in ("plain", "full") else name)


def gap(a: list[Run], b: list[Run]) -> tuple[float, float, float]:
    """Accuracy of ``b`` minus that of ``a`` with its interval, on the split judged, over the seeds that both have."""
    return difference(*_paired(a, b), judged([*a, *b]))


def _paired(*runs: list[Run]) -> list[list[Run]]:
    """The runs of the seeds that all lists have; all runs, if they share no seed."""
    both = set.intersection(*({run.record["seed"] for run in found} for found in runs))
    return [[run for run in found if run.record["seed"] in both] or found for found in runs]


def ablation(profile: str, task: str = "sst2") -> list[dict[str, Any]]:
    """Rows of the plain student, of the full method and of each arm of a task, in the order of ablation.yaml.

    A row has ``name``, ``seeds``, ``examples`` and ``steps`` of training, ``scores`` (split -> mean and standard deviation),
    ``split``, the one judged, ``difference`` to the full method there, over the seeds that both have, with its interval, and
    ``teacher``: the dev accuracy of the teacher it learned from.
    """
    full = students_of(profile, task, "full")
    arms = [arm.name for arm in config.arms(profile).values() if arm.task == task]
    rows = []
    for name in ("plain", "full", *arms):
        if full and (runs := students_of(profile, task, name)):
            split, behind = judged([*full, *runs]), teachers(profile, task, name if name in arms else "")
            rows.append({
                "name": name,
                "seeds": [run.record["seed"] for run in runs],
                "examples": runs[0].record.get("training_examples", 0),
                "steps": runs[0].record.get("steps", 0),
                "scores": {split: mean_score(runs, split) for split in _splits_of_all(runs)},
                "split": split,
                "difference": gap(full, runs),
                "teacher": mean_score(behind, "dev")[0] if behind and name != "plain" else None,
            })  # fmt: skip
    return rows


def by_size(profile: str, task: str) -> list[dict[str, Any]]:
    """Students that learned from a share of the synthetic examples, the smallest first, the full method last.

    A row has ``name``, ``seeds`` (those that all of them have), ``examples`` (of the transfer set, the real ones too), ``split``,
    the one judged, and ``score``: accuracy there with its 95% interval over examples and seeds.
    """
    arms = [
        arm.name
        for arm in config.arms(profile).values()
        if arm.task == task and "synthetic" in arm.changes_of("student")
    ]
    found = {name: runs for name in ("full", *arms) if (runs := students_of(profile, task, name))}
    rows = []
    for name, runs in zip(found, _paired(*found.values()) if found else [], strict=True):
        split = judged(runs)
        correct = np.stack([run.correct(split) for run in runs])
        rows.append({
            "name": name,
            "seeds": [run.record["seed"] for run in runs],
            "examples": runs[0].record["training_examples"],
            "split": split,
            "score": metrics.bootstrap_difference(np.zeros_like(correct), correct, seed=BOOTSTRAP_SEED),
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["examples"])


def dataset(profile: str, task: str) -> str:
    """The name of the data set that a task has in this profile."""
    return read(paths.data_record(profile, task), profile, task)["dataset"]


def write_report(profile: str, name: str, content: dict[str, Any]) -> None:
    """A report of the notebooks 06 and 07: ``results/report/<name>.json``."""
    path = paths.RESULTS / "report" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    paths.write(path, json.dumps({"profile": profile} | content, indent=1) + "\n")
