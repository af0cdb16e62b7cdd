"""The paper's claims, each with its number, ours and a verdict that follows from the numbers."""

from typing import Any

from distil import config, paths, report, speeds
from distil.tasks import TASKS


def claims(profile: str) -> list[dict[str, str]]:
    """Each claim of ``results/paper.json`` with the paper's number, ours, and a verdict."""
    rows = [row for row in report.table(profile) if row["metric"] == "accuracy" and row["judged"]]
    verdicts = [claim for row in rows for claim in _task_claims(row)]
    return verdicts + _speed_claims(profile) + _ablation_claims(profile)


def _task_claims(row: dict[str, Any]) -> list[dict[str, str]]:
    gain, low, high = row["gain"]
    ceiling = row["teacher"][0] - row["student-baseline"][0]
    ours, closed = report.gain(row["gain"]), f"{gain / ceiling:.0%} of the gap" if ceiling > 0 else "no gap"
    if not row["paper"]:  # a task of the user's own
        title = f"{row['dataset']}, {report.split_name(row['split'])}"
        return [_claim(_text(name), title, "not in the paper", value, _sign_verdict(low, high).replace("reproduced", "so here"))
                for name, value in (("gain", ours), ("gap", closed))]  # fmt: skip
    plain, distilled, teacher = (row["paper"][role] for role in ("student-baseline", "student-distilled", "teacher"))
    paper_gain = distilled - plain
    title = f"{TASKS[row['task']].title} / {row['dataset']}, {report.split_name(row['split'])}"
    if low <= paper_gain <= high:
        which = ", as is no gain: both lie" if low <= 0 else ": the paper's gain lies"
        size = f"compatible{which} in our interval, {100 * (high - low):.1f} points wide"
    else:
        size = f"{'larger' if gain > paper_gain else 'smaller'} than the paper's"
    return [
        _claim(_text("gain"), title, report.points(paper_gain), ours,
               _sign_verdict(low, high)),
        _claim(_text("size"), title, report.points(paper_gain), ours, size),
        _claim(_text("gap"), title, f"{paper_gain / (teacher - plain):.0%} of the gap",
               closed, _sign_verdict(low, high) if ceiling > 0 else "not reproduced: the teacher is no better"),
    ]  # fmt: skip


def _sign_verdict(low: float, high: float) -> str:
    """Whether a difference that the paper says is positive is so in our interval."""
    if low > 0:
        return "reproduced"
    return "not reproduced: the other way round" if high < 0 else "undecided: the interval includes 0"


def _text(identifier: str) -> str:
    return next(claim["text"] for claim in report.paper()["claims"] if claim["id"] == identifier)


def _claim(claim: str, where: str, published: str, ours: str, verdict: str) -> dict[str, str]:
    return {"claim": claim, "where": where, "paper": published, "ours": ours, "verdict": verdict}


def _speed_claims(profile: str) -> list[dict[str, str]]:
    record, _, rows = speeds.table_2(profile)
    return [claim for row in rows for claim in _ratio_claims(row, record["device"])]


def _ratio_claims(row: speeds.Ratios, device: str) -> list[dict[str, str]]:
    # The paper divides by 0.96 million, which is rounded to 1 in 96.
    agrees = abs(row.larger / row.published["times_larger"] - 1) < 1 / 96
    model = row.published["model"]
    return [
        _claim(_text("parameters").format(model=model), "Table 2", f"{row.published['times_larger']}x", f"{row.larger:.0f}x",
               f"{'' if agrees else 'not '}reproduced; counting the student's word vectors too it is {row.larger_in_full:.0f}x"),
        _claim(_text("time").format(model=model), "Table 2", f"{row.published['times_slower']}x", f"{row.slower:.0f}x",
               f"not comparable: {device} against the paper's V100"),
    ]  # fmt: skip


def _ablation_claims(profile: str) -> list[dict[str, str]]:
    """A claim of paper.json that names an arm holds if the full method beats that arm; ours is the arm minus the full method."""
    found = {}
    for task in TASKS:
        found |= {row["name"]: row for row in report.ablation(profile, task)}
    verdicts = []
    for claim in (claim for claim in report.paper()["claims"] if claim.get("arm") in found):
        row = found[claim["arm"]]
        _, low, high = row["difference"]
        where = f"{claim['where']}, {report.split_name(row['split'])}, {_seeds(row['seeds'])}"
        ours = f"{row['name']} minus full: {report.gain(row['difference'])}"
        verdicts.append(_claim(claim["text"], where, claim["paper"], ours, _sign_verdict(-high, -low)))
    return verdicts


def _seeds(numbers: list[int]) -> str:
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _expected(profile: str) -> list[str]:
    """The tasks that this profile has data of; if any of them is the paper's, all of the paper's."""
    there = [task for task in TASKS if paths.data_record(profile, task).exists()]
    papers = any(TASKS[task].in_paper for task in there) or not there
    return [task for task, spec in TASKS.items() if task in there or (papers and spec.in_paper)]


def missing(profile: str) -> list[str]:
    """What the report has to leave out, one line each; nothing is left out silently."""
    shown = {row["task"] for row in report.table(profile)}
    lines = [f"{task}: not all of {', '.join(report.PAPER_ROWS)}" for task in _expected(profile) if task not in shown]
    if "sst2" in _expected(profile) and not _speed_claims(profile):
        lines.append("Table 2: no speed record with the student and BERT_LARGE or ELMo")
    arms = [arm for arm in config.arms(profile).values() if arm.task in shown]
    have = {row["name"] for task in shown for row in report.ablation(profile, task)}
    unfit = {arm.name for arm in arms if report.left_out(profile, arm.task, config.ROLES[1], arm.name)}
    if absent := [arm.name for arm in arms if arm.name not in have | unfit]:
        lines.append(f"arms of the ablation without a record (make ablation): {', '.join(absent)}")
    students = [(task, role, "") for task in sorted(shown) for role in config.ROLES]
    for task, role, arm in [*students, *((arm.task, config.ROLES[1], arm.name) for arm in arms)]:
        if count := report.left_out(profile, task, role, arm):
            lines.append(
                f"{task} {arm or role}: {count} of another config, data, teacher or transfer set than on record"
            )
    return lines
