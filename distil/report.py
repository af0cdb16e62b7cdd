"""Reads the records of a profile once, and computes the tables and verdicts that pages show.

``load`` returns ``Results``. Every other function takes ``Results`` and reads no run again.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distil import config, metrics, records

MARGIN = 0.002  # an interval that ends within 0.2 points of 0 decides nothing
STUDENTS = ("plain", "distilled")
PAPER_ROWS = {  # our name -> the row of the paper's Table 1
    "plain": "BiLSTM (our implementation)",
    "distilled": "Distilled BiLSTM_SOFT",
    "teacher": "BERT_LARGE (Devlin et al. 2018)",
}
SPLITS = {  # split -> its name on a page; verdicts take the last one that all runs have
    "dev_mismatched": "dev, mismatched",
    "dev": "dev",
    "dev_untouched": "dev, epoch chosen on held-out train",
    "test": "test",  # it decided nothing
}
TEACHERS = {"packages": "MiniLM-L6", "packages-mpnet": "MPNet-base", "tiny": "tiny random BERT"}
LARGE_MODELS = ("bert-large", "elmo")  # our names for two rows of the paper's Table 2, in its order
PAPER = config.ROOT / "results" / "paper.json"
Row = dict[str, Any]
Estimate = tuple[float, float, float]  # a value and the ends of its 95% interval


@dataclass(frozen=True)
class Run:
    """One record and its predictions: split -> (logits [N, classes], labels [N])."""

    record: Row
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]

    def answers(self, split: str) -> np.ndarray:
        """Return the predicted class of each example [N]."""
        return self.predictions[split][0].argmax(axis=1)

    def correct(self, split: str) -> np.ndarray:
        """Return whether each answer is right [N]."""
        return self.answers(split) == self.predictions[split][1]

    def inputs(self, kind: str) -> dict[str, str]:
        """Return file -> sha256 of one kind of input; older records name the kind alone."""
        named = {name.partition("/"): sha for name, sha in self.record["inputs"].items()}
        return {file or own: sha for (own, _, file), sha in named.items() if own == kind}

    def learned_from(self) -> Row:
        """Return a student's settings, and the files of its data and of its transfer set."""
        files = {"data": self.inputs("data"), "transfer set": self.inputs("transfer-set")}
        return self.record["config"] | files


@dataclass(frozen=True)
class Results:
    """All that the records of one profile say; its students are those that may be compared."""

    profile: str
    arms: dict[str, config.Arm]
    paper: Row
    runs: dict[tuple[str, str, str], list[Run]]  # (task, arm, stage) -> runs in the order of seeds
    left_out: list[str] = field(default_factory=list)  # students that may not be compared, and why
    draws: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)  # finished bootstraps

    def made_by(self, task: str, arm: str, stage: str) -> list[Run]:
        """Return the teacher or the transfer set behind an arm's students, if it is on record."""
        return self.runs.get((task, config.made_by(self.profile, arm, stage), stage), [])[:1]

    def arms_of(self, task: str) -> list[str]:
        """Return the arms that a task has: an arm without a list of tasks belongs to all."""
        return [name for name, arm in self.arms.items() if task in (arm.tasks or [task])]

    def students(self, task: str, *arms: str) -> list[list[Run]]:
        """Return the students of each arm, of those seeds that all these arms have."""
        found = [self.runs.get((task, arm, "student"), []) for arm in arms]
        shared = set.intersection(*({run.record["seed"] for run in runs} for runs in found))
        return [[run for run in runs if run.record["seed"] in shared] for runs in found]

    def tasks(self) -> list[str]:
        """Return the tasks that have a plain and a distilled student of the same seed."""
        return [task for task in config.tasks() if self.students(task, *STUDENTS)[0]]

    def bootstrap(self, task: str, a: str, b: str, split: str, metric: str) -> np.ndarray:
        """Return resampled scores [n, 3] of arms a and b and of the teacher, computed once.

        A RecordError says that the runs were not scored on the same examples.
        """
        first, second = sorted((a, b))
        if (key := (task, first, second, split, metric)) not in self.draws:
            models = [(runs, split) for runs in self.students(task, first, second)]
            models += [
                (self.made_by(task, "distilled", "teacher"), split.removesuffix("_untouched"))
            ]
            labels = models[0][0][0].predictions[split][1]
            for run, own in [(run, own) for runs, own in models for run in runs]:
                if not np.array_equal(run.predictions[own][1], labels):
                    where = f"{self.profile}/{task}, {first} and {second}"
                    raise records.RecordError(f"{where}: scored on other {own} examples; rerun")
            answers = [np.stack([run.answers(own) for run in runs]) for runs, own in models]
            positive = records.Step("data", self.profile, task).spec.positive
            self.draws[key] = metrics.bootstrap(answers, labels, metric, 2019, positive)
        return self.draws[key] if a == first else self.draws[key][:, [1, 0, 2]]


def load(profile: str) -> Results:
    """Return the results of a profile; each record and each file of predictions is read once.

    A RecordError says that a record belongs to another profile or task.
    """
    results = Results(profile, config.arms(profile), json.loads(PAPER.read_text("utf-8")), {})
    for step in _steps(profile):
        record = step.read()
        own = f"{record['profile']}/{record.get('task', '')}"
        if own != f"{profile}/{step.task}":
            told = f"{step.path.name} of {profile}/{step.task} says it is of {own}"
            raise records.RecordError(f"{told}: profiles are not mixed; move it back or delete it")
        run = Run(record, step.predictions() if step.arm else {})
        results.runs.setdefault((step.task, step.arm, step.stage), []).append(run)
    for task, arm, stage in results.runs:
        if stage == "student":
            _leave_out(results, task, arm)
    return results


def _steps(profile: str) -> list[records.Step]:
    """Return the steps of a profile that have a record, in the order of seeds."""
    steps = [records.Step("data", profile, task) for task in config.tasks()]
    steps.append(records.Step("speed", profile))
    for path in sorted((records.RESULTS / "runs" / profile).glob("*/*/*-seed*.json")):
        stage, _, seed = path.stem.rpartition("-seed")
        steps.append(records.Step(stage, profile, path.parts[-3], path.parts[-2], int(seed)))
    return sorted((step for step in steps if step.path.exists()), key=lambda step: step.seed)


def _leave_out(results: Results, task: str, arm: str) -> None:
    """Drop the students of an arm that may not be compared, and say why in ``left_out``.

    The reference is the first distilled student that learned from the transfer set on record. All
    students must have the reference's data, and its settings but for what their arm changes; the
    plain one may also have another budget (epochs, patience). The others must have learned from
    the transfer set on record of their arm, and the teacher on record must have labelled it.
    """
    main, main_set = results.runs.get((task, "distilled", "student"), []), _files(results, task)
    reference = next((run for run in main if run.inputs("transfer-set") == main_set), None)
    known, kept = arm in results.arms_of(task), []
    for run in results.runs[task, arm, "student"]:
        why = "no distilled student of the transfer set on record" if known else "no such arm"
        if known and reference:
            own, changes = run.learned_from(), results.arms[arm].changes.get("student", {})
            wanted = reference.learned_from() | records.as_config(changes)
            wanted["transfer set"] = _files(results, task, arm)
            if arm == "plain":
                budget = (kept or [run])[0].record["config"]
                wanted |= {key: budget.get(key) for key in ("epochs", "patience")}
                wanted["transfer set"] = {}
            other = [key for key in wanted | own if own.get(key) != wanted.get(key)]
            why = f"other {', '.join(other)}" if other else ""
        if why:
            results.left_out.append(f"{task} {arm}, seed {run.record['seed']}: {why}")
        else:
            kept.append(run)
    results.runs[task, arm, "student"] = kept


def _files(results: Results, task: str, arm: str = "distilled") -> dict[str, str] | None:
    """Return the files of an arm's transfer set; None if its teacher on record did not label it."""
    teacher, found = (results.made_by(task, arm, stage) for stage in ("teacher", "transfer-set"))
    valid = teacher and found and found[0].inputs("teacher") == teacher[0].record["outputs"]
    return found[0].record["outputs"] if valid else None


def splits(runs: Sequence[Run]) -> list[str]:
    """Return the splits that every run was scored on; the last one is for verdicts."""
    return [split for split in SPLITS if all(split in run.predictions for run in runs)]


def mean_score(runs: Sequence[Run], split: str, metric: str = "accuracy") -> tuple[float, float]:
    """Return mean and standard deviation over seeds (0 for one seed)."""
    values = [run.record["metrics"][split][metric] for run in runs]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def difference(
    results: Results, task: str, a: str, b: str, split: str, metric: str = "accuracy"
) -> Estimate:
    """Return the score of arm b minus that of arm a, over the seeds that both have."""
    score_a, score_b = (mean_score(r, split, metric)[0] for r in results.students(task, a, b))
    draws = results.bootstrap(task, a, b, split, metric)
    return (score_b - score_a, *metrics.interval(draws[:, 1] - draws[:, 0]))


def table(results: Results) -> list[Row]:
    """Return a row per task, split and metric; scores are fractions (see ``_row``)."""
    rows = []
    for task in results.tasks():
        found = splits([run for runs in results.students(task, *STUDENTS) for run in runs])
        for split in found:
            for metric in ("accuracy", "f1") if config.task(task).f1 else ("accuracy",):
                row = _row(results, task, split, metric)
                rows.append(row | {"verdict_split": split == found[-1]})
    return rows


def _row(results: Results, task: str, split: str, metric: str) -> Row:
    """Return the scores (mean, deviation) of plain, distilled and teacher, and two estimates.

    ``gain`` is distilled minus plain. ``share`` is gain / (teacher - plain), and None if the
    teacher's lead is not clearly above 0. A draw without any lead counts as an unbounded share.
    """
    plain, distilled = results.students(task, *STUDENTS)
    teacher = results.made_by(task, "distilled", "teacher")
    record, model = distilled[0].record, teacher[0].record["config"]["model"]
    column = f"{task}_mismatched" if split == "dev_mismatched" else task
    published = {row["model"]: row for row in results.paper["table_1"]["rows"]}
    names = PAPER_ROWS if config.task(task).in_paper else {}
    row: Row = {
        "task": task,
        "dataset": record["dataset"],
        "train_rows": record["rows"]["train"],
        "teacher_name": TEACHERS.get(model, model.partition("@")[0]),
        "split": split,
        "metric": metric,
        "seeds": [run.record["seed"] for run in distilled],
        "plain": mean_score(plain, split, metric),
        "distilled": mean_score(distilled, split, metric),
        "teacher": mean_score(teacher, split.removesuffix("_untouched"), metric),
        "paper": {name: published[PAPER_ROWS[name]][column][metric] / 100 for name in names},
        "gain": difference(results, task, *STUDENTS, split, metric),
        "share": None,
    }
    low, high, top = results.bootstrap(task, *STUDENTS, split, metric).T
    if metrics.interval(top - low)[0] > MARGIN:
        ends = metrics.interval((high - low) / np.maximum(top - low, 1e-9))
        row["share"] = (row["gain"][0] / (row["teacher"][0] - row["plain"][0]), *ends)
    return row


def ablation(results: Results, task: str) -> list[Row]:
    """Return a row for each arm of a task that has a student: plain, distilled, the others.

    ``difference`` is the arm minus distilled on ``split``, over the ``shared`` seeds.
    ``teacher`` is the dev accuracy of the teacher behind the arm, None for plain.
    """
    rows = []
    for name in dict.fromkeys([*STUDENTS, *results.arms]):
        arm, full = results.students(task, name, "distilled")
        if not arm:
            continue
        (runs,), split = results.students(task, name), splits([*arm, *full])[-1]
        teacher = results.made_by(task, name, "teacher")
        row = {key: runs[0].record.get(key, 0) for key in ("training_examples", "steps")}
        row |= {"name": name, "dataset": runs[0].record["dataset"], "split": split}
        row["seeds"], row["shared"] = ([run.record["seed"] for run in own] for own in (runs, arm))
        row["scores"] = {own: mean_score(runs, own) for own in splits(runs)}
        row["difference"] = (0.0, 0.0, 0.0)
        if name != "distilled":
            row["difference"] = difference(results, task, "distilled", name, split)
        row["teacher"] = None if name == "plain" else mean_score(teacher, "dev")[0]
        rows.append(row)
    return rows


def table_2(results: Results) -> list[Row]:
    """Return how many times larger and slower than the student each large model is.

    Parameters are compared without the student's word vectors, as in the paper, and ``in_full``.
    """
    (speed,) = results.runs.get(("", "", "speed"), [Run({"models": []}, {})])
    models = {row["name"]: row for row in speed.record["models"]}
    published = zip(LARGE_MODELS, results.paper["table_2"]["rows"], strict=False)
    student, rows = models.get("student"), []
    for paper, large in ((paper, models.get(name)) for name, paper in published):
        if student and large:
            total, own = large["n_params"]["total"], student["n_params"]
            row = {"larger": total / own["non_embedding"], "in_full": total / own["total"]}
            row["slower"] = student["sentences_per_second"] / large["sentences_per_second"]
            rows.append(row | {"paper": paper, "student": student, "speed": speed.record})
    return rows


def missing(results: Results) -> list[str]:
    """Return a line for each thing that the tables leave out."""
    tasks, shown = config.tasks(), results.tasks()
    prepared = {task for task in tasks if (task, "", "data") in results.runs}
    papers = not prepared or any(tasks[task].in_paper for task in prepared)
    wanted = prepared | {name for name in tasks if papers and tasks[name].in_paper}
    absent = [name for name in tasks if name in wanted and name not in shown]
    lines = [f"{name}: not all of teacher, plain and distilled" for name in absent]
    if papers and not table_2(results):
        lines.append("Table 2: no speed record with the student and BERT_LARGE or ELMo")
    have = {arm for _, arm, stage in results.runs if stage == "student"}
    arms = [name for task in shown for name in results.arms_of(task) if name not in have]
    arms = list(dict.fromkeys(arms))
    lines += [f"arms without a record (make ablation): {', '.join(arms)}"] if arms else []
    return lines + results.left_out


def verdicts(results: Results) -> list[dict[str, str]]:
    """Return each claim of the paper with the paper's number, ours, and what ours says of it.

    A gain is ``reproduced`` if its interval lies above 0 and ``not reproduced`` if it lies below.
    It is ``undecided`` if the interval includes 0, or ends within 0.2 points of 0, so that no
    verdict hangs on the seed of the bootstrap. Its size, and the share of the gap that it
    closes, are ``compatible`` if the paper's number lies in our interval.
    """
    claims = {claim["id"]: claim for claim in results.paper["claims"]}
    lines = [line for row in table(results) if row["verdict_split"] for line in _of_table_1(row)]
    lines += [line for row in table_2(results) for line in _of_table_2(row)]
    rows = [row for task in results.tasks() for row in ablation(results, task)]
    for name, row in ((name, row) for name in claims for row in rows):
        if claims[name].get("arm") == row["name"]:
            place = f"{claims[name]['where']}, {row['dataset']}"
            where = f"{place}, {SPLITS[row['split']]}, {seeds(row['shared'])}"
            ours = f"{row['name']} minus distilled: {gain(row['difference'])}"
            value, low, high = row["difference"]
            verdict = sign_verdict((-value, -high, -low))
            lines.append((name, where, claims[name]["paper"], ours, verdict))
    keys = ("claim", "where", "paper", "ours", "verdict")
    texts = [
        claims[name]["text"].replace("{model}", where.rpartition(", ")[2])
        for name, where, *_ in lines
    ]
    return [
        dict(zip(keys, (t, *line[1:]), strict=True)) for t, line in zip(texts, lines, strict=True)
    ]


def _of_table_1(row: Row) -> list[tuple[str, ...]]:
    """Return (claim, where, paper, ours, verdict) of a gain, its size and its share of the gap."""
    paper, share, scored = (
        row["paper"],
        row["share"],
        f"{scored_by(row)} on {SPLITS[row['split']]}",
    )
    title = f"{config.task(row['task']).title} / " if paper else ""
    where = f"{title}{row['dataset']}, {scored}, {seeds(row['seeds'])}"
    ours, sign = gain(row["gain"]), sign_verdict(row["gain"])
    if not paper:  # a task of the user's own
        return [("gain", where, "not in the paper", ours, sign)]
    published = paper["distilled"] - paper["plain"]
    part = published / (paper["teacher"] - paper["plain"])
    closed, verdict = "no clear gap", "undecided: the teacher's lead over plain is not clear"
    if share:
        closed = "{:.0%} [{:.0%}, {:.0%}] of the gap".format(*share)
        verdict = size_verdict(share, part)
    return [
        ("gain", where, points(published), ours, sign),
        ("size", where, points(published), ours, size_verdict(row["gain"], published)),
        ("gap", where, f"{part:.0%} of the gap", closed, verdict),
    ]


def _of_table_2(row: Row) -> list[tuple[str, ...]]:
    """Return (claim, where, paper, ours, verdict) of a large model's parameters and time."""
    where, larger, slower = (row["paper"][key] for key in ("model", "times_larger", "times_slower"))
    # The paper divides by 0.96 million, which is rounded to 1 part in 96.
    agrees = "reproduced" if abs(row["larger"] / larger - 1) < 1 / 96 else "not reproduced"
    sized = f"{agrees}; with the student's word vectors {row['in_full']:.0f}x"
    timed = f"not comparable: {row['speed']['device']} against the paper's V100"
    return [
        ("parameters", f"Table 2, {where}", f"{larger}x", f"{row['larger']:.0f}x", sized),
        ("time", f"Table 2, {where}", f"{slower}x", f"{row['slower']:.0f}x", timed),
    ]


def sign_verdict(estimate: Estimate) -> str:
    """Return whether a difference is positive, as the paper says (see ``verdicts``)."""
    _, low, high = estimate
    if low > MARGIN or high < -MARGIN:
        return "reproduced" if low > 0 else "not reproduced: the other way round"
    near = "includes 0" if low <= 0 <= high else "ends within 0.2 points of 0"
    return f"undecided: the interval {near}"


def size_verdict(estimate: Estimate, published: float) -> str:
    """Return how an estimate compares with the paper's number."""
    value, low, high = estimate
    if low <= published <= high:
        zero = ", but so does 0" if low <= 0 else ""
        return f"compatible: the paper's number lies in our interval{zero}"
    return f"{'larger' if value > published else 'smaller'} than the paper's"


def scored_by(row: Row) -> str:
    """Return a row's metric for Markdown; F1 of a user's own task with the label it is of."""
    if row["paper"] or row["metric"] == "accuracy":
        return row["metric"]
    return f"{row['metric']} of {as_text(config.task(row['task']).f1)}"


def as_text(label: str) -> str:
    """Return a user's label so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", label)


def percent(value: float) -> str:
    """Return a score in percent, with the one precision of all pages."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Return a signed difference in points; rounded twice, so that 6.35 always reads alike."""
    return f"{round(100 * value, 6):+.1f}"


def gain(estimate: Estimate) -> str:
    """Return a difference in points with its interval."""
    return "{} [{}, {}]".format(*map(points, estimate))


def spread(score: tuple[float, float], seeds: Sequence[int]) -> str:
    """Return a mean score, with its standard deviation if there are several seeds."""
    return percent(score[0]) + (f" ± {percent(score[1])}" if len(seeds) > 1 else "")


def seeds(numbers: Sequence[int]) -> str:
    """Return how many seeds a number rests on."""
    return "one seed" if len(numbers) == 1 else f"{len(numbers)} seeds"


def markdown(results: Results) -> str:
    """Return the table of our scores and the paper's as Markdown."""
    head = ("data, split, score", "plain BiLSTM", "distilled BiLSTM", "gain [95%]", "teacher")
    cells = [[*head, "paper: plain → distilled, teacher"], ["---"] * 6]
    for row in table(results):
        paper, told = row["paper"], "not in the paper"
        if paper:
            low, high, top = (percent(paper[name]) for name in (*STUDENTS, "teacher"))
            title, published = config.task(row["task"]).title, paper["distilled"] - paper["plain"]
            told = f"{title}: {low} → {high} ({points(published)}), {top}"
        plain, distilled = (spread(row[name], row["seeds"]) for name in STUDENTS)
        where = f"{row['dataset']}, {SPLITS[row['split']]}, {scored_by(row)}"
        teacher = f"{percent(row['teacher'][0])} ({row['teacher_name']})"
        cells.append([where, plain, f"**{distilled}**", gain(row["gain"]), teacher, told])
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
