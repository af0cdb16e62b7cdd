"""Reads the records of a profile once, and computes the tables and verdicts that pages show.

``load`` returns ``Results``. Every other function takes ``Results`` or rows, and reads no file.
"""

import functools
import itertools
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from distil import config, metrics, records

MARGIN = 0.002  # an interval that ends within 0.2 points of 0 decides nothing
STUDENTS = (config.PLAIN, config.MAIN)
PAPER_ROWS = {"plain": "BiLSTM (our implementation)", "distilled": "Distilled BiLSTM_SOFT"}
PAPER_ROWS["teacher"] = "BERT_LARGE (Devlin et al. 2018)"  # our name -> the row of Table 1
BOTH = "dev + test"  # of students whose epoch held-out rows chose; chapter 07 alone takes it
SPLITS = ("dev_mismatched", "dev", "test", BOTH)  # verdicts take the last one that all runs have
TEACHERS = {"packages": "MiniLM-L6", "packages-mpnet": "MPNet-base", "tiny": "tiny random BERT"}
Row = dict[str, Any]


class Score(NamedTuple):
    """A mean score and its standard deviation over seeds, None for one seed."""

    mean: float
    deviation: float | None = None

    def __str__(self) -> str:
        told = f"{100 * self.mean:.1f}"
        return told if self.deviation is None else f"{told} ± {100 * self.deviation:.1f}"


class Estimate(NamedTuple):
    """A difference, or a share, and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "{} [{}, {}]".format(*map(points, self))

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, -self.high, -self.low)

    def sign(self) -> str:
        """Return whether a difference is positive, as the paper says (see ``verdicts``)."""
        if self.low > MARGIN or self.high < -MARGIN:
            return "reproduced" if self.low > 0 else "not reproduced: the other way round"
        near = "includes 0" if self.low <= 0 <= self.high else "ends within 0.2 points of 0"
        return f"undecided: the interval {near}"

    def size(self, published: float) -> str:
        """Return how the estimate compares with the paper's number."""
        if self.low <= published <= self.high:
            zero = ", but so does 0" if self.low <= 0 else ""
            return f"compatible: the paper's number lies in our interval{zero}"
        return f"{'larger' if self.value > published else 'smaller'} than the paper's"


@dataclass(frozen=True)
class Run:
    """One record and its predictions: split -> (logits [N, classes], labels [N])."""

    record: Row
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def positive(self) -> int | None:
        """The class whose F1 is scored, if any."""
        return records.Step("data", self.record["profile"], self.record["task"]).spec.positive

    def answers(self, split: str) -> np.ndarray:
        """Return the predicted class of each example [N]."""
        return self.predictions[split][0].argmax(axis=1)

    def correct(self, split: str) -> np.ndarray:
        """Return whether each answer is right [N]."""
        return self.answers(split) == self.predictions[split][1]

    def inputs(self, kind: str) -> dict[str, str]:
        """Return file -> sha256 of one kind of input."""
        named = {name.partition("/"): sha for name, sha in self.record["inputs"].items()}
        return {file: sha for (own, _, file), sha in named.items() if own == kind}

    def learned_from(self) -> Row:
        """Return a student's settings, data and transfer set, and what chose its epoch."""
        found = {"data": self.inputs("data"), "transfer set": self.inputs("transfer-set")}
        return self.record["config"] | found | {"choice of the epoch": self.record["chosen_on"]}

    def at(self, steps: int) -> float | None:
        """Return the dev accuracy of the best epoch that had ended after ``steps``, if one had."""
        judge, history = f"{self.record['chosen_on']}_history", self.record["history"]
        epochs = self.record.get(judge, history)[: steps * len(history) // self.record["steps"]]
        return history[int(np.argmax(epochs))] if epochs else None


@dataclass(frozen=True, eq=False)
class Results:
    """All that the records of one profile say; its students are those that may be compared."""

    profile: str
    arms: dict[str, config.Arm]
    paper: Row
    runs: dict[tuple[str, str, str], list[Run]]  # (task, arm, stage) -> runs in the order of seeds
    left_out: list[str] = field(default_factory=list)  # what the tables leave out, and why

    def made_by(self, task: str, arm: str, stage: str) -> list[Run]:
        """Return the teacher or the transfer set behind an arm's students, if it is on record."""
        return self.runs.get((task, config.made_by(self.profile, arm, stage), stage), [])[:1]

    def students(self, task: str, *arms: str) -> list[list[Run]]:
        """Return the students of each arm, of those seeds that all these arms have."""
        found = [self.runs.get((task, arm, "student"), []) for arm in arms]
        shared = set.intersection(*({run.record["seed"] for run in runs} for runs in found))
        return [[run for run in runs if run.record["seed"] in shared] for runs in found]

    def models(self, task: str, arm: str = config.MAIN) -> dict[str, list[Run]]:
        """Return the runs of plain, of distilled (or an arm with a teacher of its own), of teacher."""
        found = dict(zip(STUDENTS, self.students(task, config.PLAIN, arm), strict=True))
        return found | {"teacher": self.made_by(task, arm, "teacher")}

    def tasks(self) -> list[str]:
        """Return the tasks that have a plain and a distilled student of the same seed."""
        return [task for task in config.tasks() if self.students(task, *STUDENTS)[0]]


def load(profile: str) -> Results:
    """Return the results of a profile; each record and each file of predictions is read once.

    A RecordError says that a record belongs to another profile or task.
    """
    paper = json.loads((config.ROOT / "results" / "paper.json").read_text("utf-8"))
    results = Results(profile, config.profile(profile).arms, paper, {})
    for step in _steps(profile):
        record, predictions = step.read(), step.predictions() if step.arm else {}
        if (own := (record["profile"], record.get("task", ""))) != (profile, step.task):
            told = f"{records.short(step.path)} says it is of {'/'.join(own)}"
            raise records.RecordError(f"{told}: profiles are not mixed; move it back or delete it")
        if {"dev", "test"} <= set(predictions) and record.get("chosen_on") != "dev":
            pair = zip(predictions["dev"], predictions["test"], strict=True)
            predictions[BOTH] = tuple(map(np.concatenate, pair))
        runs = results.runs.setdefault((step.task, step.arm, step.stage), [])
        runs.append(Run(record, predictions))
    for task, arm, stage in results.runs:
        if stage == "student":
            _leave_out(results, task, arm)
    begun = sorted({task for task, *_ in results.runs} - {"", *results.tasks()})
    results.left_out.extend(f"{task}: teacher, plain or distilled is missing" for task in begun)
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

    Data and settings must be those of the first distilled student that learned from the transfer
    set on record, but for what the arm changed when it ran. The arm's transfer set must be its own.
    """
    main, wanted = results.runs.get((task, config.MAIN, "student"), []), None
    known = arm in results.arms and task in (results.arms[arm].tasks or [task])
    for learned in (run.learned_from() for run in main if known):
        if not wanted and learned["transfer set"] == _files(results, task, config.MAIN):
            wanted = learned
            wanted["transfer set"] = {} if arm == config.PLAIN else _files(results, task, arm)
            changes = records.as_config(results.arms[arm].changes.get("student", {}))
    why, kept = (
        "no distilled student learned from the transfer set on record" if known else "no such arm",
        [],
    )
    for run in results.runs[task, arm, "student"]:
        if wanted:
            fits, own = wanted | run.record.get("changes", changes), run.learned_from()
            other = ", ".join(key for key in fits | own if own.get(key) != fits.get(key))
            why = f"other {other}" if other else ""
        if why:
            results.left_out.append(f"{task} {arm}, seed {run.record['seed']}: {why}")
        else:
            kept.append(run)
    results.runs[task, arm, "student"] = kept


def _files(results: Results, task: str, arm: str) -> dict[str, str] | None:
    """Return the files of an arm's transfer set; None if its teacher on record did not label it."""
    teacher, found = (results.made_by(task, arm, stage) for stage in ("teacher", "transfer-set"))
    valid = teacher and found and found[0].inputs("teacher") == teacher[0].record["outputs"]
    return found[0].record["outputs"] if valid else None


def splits(runs: Iterable[Run]) -> list[str]:
    """Return the splits that every run was scored on; the last one is for verdicts."""
    shared = set.intersection(*(set(run.predictions) for run in runs))
    return [split for split in SPLITS if split in shared]


def score(runs: Sequence[Run], split: str, metric: str = "accuracy") -> Score:
    """Return the mean score of a model's seeds."""
    pairs = [run.predictions[split] for run in runs]
    values = [metrics.evaluate(*pair, runs[0].positive)[metric] for pair in pairs]
    return Score(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@functools.cache
def compare(
    results: Results, task: str, a: str, b: str, split: str, metric: str = "accuracy"
) -> Row:
    """Return the scores of arms a and b and of b's teacher, over the seeds that both have.

    ``gain`` is b minus a; ``share`` is gain / (teacher - a), None without a clear lead of the
    teacher.
    """
    models = dict(sorted(zip((a, b), results.students(task, a, b), strict=True)))
    models["teacher"] = results.made_by(task, b, "teacher")
    labels = models[b][0].predictions[split][1]
    answers = [np.stack([run.answers(split) for run in runs]) for runs in models.values()]
    positive = models[b][0].positive
    drawn = metrics.bootstrap(answers, labels, metric, 2019, positive)
    draws = dict(zip(models, drawn.T, strict=True))
    gains, leads = draws[b] - draws[a], draws["teacher"] - draws[a]
    row: Row = {name: score(runs, split, metric) for name, runs in models.items()}
    row["gain"] = Estimate(row[b].mean - row[a].mean, *metrics.interval(gains))
    value, ends = row["gain"].value, metrics.interval(gains / np.maximum(leads, 1e-9))
    clear = metrics.interval(leads)[0] > MARGIN
    row["share"] = Estimate(value / (row["teacher"].mean - row[a].mean), *ends) if clear else None
    row |= {"task": task, "split": split, "metric": metric, "examples": len(labels)}
    row |= {key: models[b][0].record[key] for key in ("dataset", "chosen_on")}
    return row | {"seeds": [run.record["seed"] for run in models[b]]}


def table(results: Results) -> list[Row]:
    """Return a row per task, teacher, split and metric: plain, distilled, and the paper's."""
    published = {row["model"]: row for row in results.paper["table_1"]["rows"]}
    taught = [config.MAIN, *(name for name, arm in results.arms.items() if arm.teacher)]
    rows = []
    for task, arm in itertools.product(results.tasks(), taught):
        models, spec = results.models(task, arm), config.task(task)
        if not models["distilled"]:
            continue
        model = models["teacher"][0].record["config"]["model"]
        (data,) = results.runs.get((task, "", "data"), [Run({}, {})])
        *found, last = [s for s in splits(itertools.chain(*models.values())) if s != BOTH]
        kinds = ("accuracy", "f1")[: 1 + bool(spec.f1)]
        for split, metric in itertools.product([*found, last], kinds):
            row = {"verdict_split": split == last, "arm": arm}
            row |= compare(results, task, config.PLAIN, arm, split, metric)
            row["distilled"] = row[arm]
            column = f"{task}_mismatched" if split == "dev_mismatched" else task
            cells = [(name, published[own].get(column)) for name, own in PAPER_ROWS.items()]
            row["paper"] = {
                n: Score(own[metric] / 100) for n, own in cells if own and metric in own
            }
            floors = data.record.get("floors", {}).items()
            row["floors"] = {n: Score(own[split][metric]) for n, own in floors if split in own}
            row["train_rows"] = models["plain"][0].record["rows"]["train"]
            rows.append(row | {"teacher_name": TEACHERS.get(model, model.partition("@")[0])})
    return rows


def ablation(results: Results, task: str) -> list[Row]:
    """Return a row for each arm of a task that has a student: plain, distilled, the others.

    It is ``compare`` of the arm with the one that it stands ``against``. ``scores`` are the means
    over ``all_seeds`` of the arm, per split; ``taught_by`` is its teacher's dev accuracy, or None.
    """
    rows, judge = [], results.made_by(task, config.MAIN, "teacher")
    for name in dict.fromkeys([*STUDENTS, *results.arms]):
        against = results.arms[name].against
        (runs,), pairs = results.students(task, name), results.students(task, name, against)
        if pairs[0]:
            split = splits(itertools.chain(*pairs, judge))[-1]
            row = compare(results, task, against, name, split) | {"name": name, "against": against}
            row |= {"scores": {own: score(runs, own) for own in splits(runs)}}
            row |= {"all_seeds": [run.record["seed"] for run in runs]}
            row |= {key: runs[0].record.get(key, 0) for key in ("training_examples", "steps")}
            teacher = results.made_by(task, name, "teacher")
            row["taught_by"] = None if name == config.PLAIN else score(teacher, "dev").mean
            rows.append(row)
    return rows


def equal_steps(results: Results, task: str) -> Row | None:
    """Return the students' mean dev accuracies within the ``steps`` that the plain one took.

    Each counts with its best epoch that had ended by then. None if a distilled one had ended none.
    """
    found = []
    for pair in zip(*results.students(task, *STUDENTS), strict=True):
        steps = pair[0].record["steps"]
        found.append((steps, *(run.at(steps) for run in pair)))
    if any(None in scores for scores in found):
        return None
    return dict(zip(("steps", *STUDENTS), np.mean(found, axis=0).tolist(), strict=True))


def verdicts(results: Results) -> list[dict[str, str]]:
    """Return each claim of the paper with the paper's number, ours, and what ours says of it.

    A gain is ``reproduced`` if its interval lies above 0, ``not reproduced`` if it lies below, and
    ``undecided`` if the interval includes 0 or ends within 0.2 points of it. Its size and its share
    of the gap to the teacher are ``compatible`` if the paper's number lies in our interval.
    """
    claims = {claim["id"]: claim for claim in results.paper["claims"]}
    lines = [line for row in table(results) if row["verdict_split"] for line in _of_gain(row)]
    rows = [row for task in results.tasks() for row in ablation(results, task)]
    for name, row in itertools.product(claims, rows):
        if claims[name].get("arm") == row["name"]:
            where = f"{claims[name]['where']}, {row['dataset']}, {place(row)}"
            ours = f"{row['name']} minus {row['against']}: {row['gain']}"
            lines.append((name, where, claims[name]["paper"], ours, (-row["gain"]).sign()))
    keys = ("claim", "where", "paper", "ours", "verdict")
    lines = [(claims[name]["text"], *line) for name, *line in lines]
    return [dict(zip(keys, line, strict=True)) for line in lines]


def _of_gain(row: Row) -> list[tuple[str, ...]]:
    """Return (claim, where, paper, ours, verdict) of a gain, its size and its share of the gap."""
    paper, share, gain = row["paper"], row["share"], row["gain"]
    title = f"{config.task(row['task']).title} / " if paper else ""
    taught = "" if row["arm"] == config.MAIN else f", taught by {row['teacher_name']}"
    where = f"{title}{row['dataset']}, {scored(row)} on {place(row)}{taught}"
    if not paper:  # a task of the user's own
        return [("gain", where, "not in the paper", str(gain), gain.sign())]
    published = paper["distilled"].mean - paper["plain"].mean
    part = published / (paper["teacher"].mean - paper["plain"].mean)
    closed, verdict = "no clear gap", "undecided: the teacher's lead over plain is not clear"
    if share:
        closed, verdict = "{:.0%} [{:.0%}, {:.0%}] of the gap".format(*share), share.size(part)
    return [
        ("gain", where, points(published), str(gain), gain.sign()),
        ("size", where, points(published), str(gain), gain.size(published)),
        ("gap", where, f"{part:.0%} of the gap", closed, verdict),
    ]


def points(value: float) -> str:
    """Return a signed difference in points; rounded twice, so that 6.35 always reads alike."""
    return f"{round(100 * value, 6):+.1f}"


def place(row: Row) -> str:
    """Return the split of a row, what chose the epoch if another did, and how many seeds it has."""
    split, judge = row["split"].replace("_", ", "), row["chosen_on"].replace("_", "-")
    chosen = f", epoch chosen on {judge}{' train' * (judge != 'dev')}" if judge != split else ""
    return f"{split}{chosen}, {seeds(row)}"


def seeds(row: Row) -> str:
    """Return how many seeds a row has, in words."""
    return "one seed" if len(row["seeds"]) == 1 else f"{len(row['seeds'])} seeds"


def shown(row: Row) -> dict[str, str]:
    """Return the cells of a row of ``table``: column -> text."""
    paper = "{plain} → {distilled}, {teacher}".format(**row["paper"]) if row["paper"] else ""
    cells = {"data and score": f"{row['dataset']}, {scored(row)}", "split": place(row)}
    cells |= {name: str(floor) for name, floor in row["floors"].items()}
    cells |= {"plain BiLSTM": str(row["plain"]), "distilled BiLSTM": f"**{row['distilled']}**"}
    cells["gain [95%]"] = str(row["gain"])
    cells["teacher"] = f"{row['teacher']} ({row['teacher_name']})"
    return cells | {"paper: plain → distilled, teacher": paper}


def as_text(label: str) -> str:
    """Return a user's label so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~&])", r"\\\1", " ".join(label.split()))


def scored(row: Row) -> str:
    """Return the metric of a row; F1 of a user's own task with the label it is of."""
    label = config.task(row["task"]).f1
    plain = row.get("paper") or row["metric"] == "accuracy"
    return row["metric"] if plain else f"{row['metric']} of {as_text(label)}"


def grid(rows: Sequence[Row]) -> str:
    """Return rows of texts as a table in Markdown; a row may lack a column."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [head, ["---"] * len(head), *([row.get(key, "") for key in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
