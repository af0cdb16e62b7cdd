"""The committed evidence: complete, free of local paths; scores recomputed from their logits."""

import json
import re
import runpy
import subprocess

import nbformat
import numpy as np
import pytest

from distil import config, metrics, records, report

RESULTS = config.ROOT / "results"
KEYS = {"profile", "task", "dataset", "role", "seed", "config", "metrics", "n_params", "seconds"}
KEYS |= {"device", "versions", "git", "inputs", "outputs", "rows"}
LOCAL = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|var|opt)/[\w.-]+")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=config.ROOT, capture_output=True, text=True).stdout


def committed() -> list[records.Step]:
    """Return the steps of the records under ``runs`` that git has, and that no run has replaced."""
    if git("status", "--porcelain", "--", "results/runs"):
        return []  # a user's own records: these tests ask nothing of them
    steps = []
    for line in git("ls-files", "results/runs").splitlines():
        if line.endswith(".json"):
            _, _, profile, task, arm, name = line.split("/")
            stage, _, seed = name.removesuffix(".json").rpartition("-seed")
            steps.append(records.Step(stage, profile, task, arm, int(seed)))
    return steps


@pytest.fixture(autouse=True)
def of_the_clone(monkeypatch):
    monkeypatch.setattr(records, "RESULTS", RESULTS)


STEPS = committed()
OURS = ("glue", "qqp", "mnli")  # folders of committed copies; pages of a user's own runs may be old
EXECUTED = sorted(p for p in RESULTS.rglob("executed/**/*.ipynb") if p.parent.name in OURS)
AS_COMMITTED = pytest.mark.skipif(not STEPS, reason="the records are not those that git has")
name = lambda path: str(path.relative_to(config.ROOT))  # noqa: E731
every_record = pytest.mark.parametrize("step", STEPS, ids=lambda s: f"{s.profile} {s.name}")


@AS_COMMITTED
def test_the_offline_run_is_complete_and_shows_what_the_project_says():
    """The teacher beats the plain student; on movie reviews the gain is about four points."""
    for profile in {step.profile for step in STEPS}:
        assert report.load(profile).left_out == []
    results = report.load("offline")
    assert results.tasks() == ["sst2", "qqp", "mnli"]
    assert len(results.students("sst2", *report.STUDENTS)[0]) >= 3
    rows = [row for row in report.table(results) if row["metric"] == "accuracy"]
    assert all(row["teacher"][0] > row["plain"][0] for row in rows)
    (dev,) = [row for row in rows if (row["task"], row["split"]) == ("sst2", "dev")]
    assert dev["gain"][0] >= 0.04


@every_record
def test_every_score_follows_from_the_logits(step):
    record, predictions = step.read(), step.predictions()
    assert not KEYS - set(record) and step.path.stat().st_size < 8192
    assert all(record[key] == getattr(step, key) for key in ("profile", "task", "seed"))
    assert set(predictions) == set(record["metrics"])
    for split, (logits, labels) in predictions.items():
        again = metrics.evaluate(logits, labels, config.task(step.task).positive)
        assert record["metrics"][split] == pytest.approx(again, abs=1e-9), split
        assert len(labels) == record["rows"][split]
    assert set(record["n_params"]) == {"total", "non_embedding"} and not record["git"]["dirty"]
    if step.stage == "student":  # its score is the best of its epochs
        judge = "held_out_history" if record["chosen_on"] == "held_out" else "history"
        best = record["history"][np.argmax(record[judge])]
        assert record["metrics"]["dev"]["accuracy"] == pytest.approx(best, abs=1e-9)


@AS_COMMITTED
def test_pages_show_the_numbers_of_the_report():
    """Every number of the blocks in README.md and docs/results.md, and those of README's prose."""
    tool = runpy.run_path(str(config.ROOT / "tools" / "readme.py"))
    all_results = [report.load(profile) for profile in tool["PROFILES"]]
    for page, body in tool["PAGES"].items():
        text = (config.ROOT / page).read_text(encoding="utf-8")
        assert tool["rewrite"](text, body(all_results)) == text
    (glue, offline), prose = all_results, (config.ROOT / "README.md").read_text(encoding="utf-8")
    learnt = [run.record["history"] for run in offline.students("sst2", "plain")[0]]
    early, late = (np.mean([max(one[:n]) for one in learnt]) for n in (10, None))
    floors = glue.runs["sst2", "", "data"][0].record["floors"].values()
    shares = [early, late, max(floor["dev"]["accuracy"] for floor in floors)]
    sizes = [tool["table_2"](offline)[0][key][:-1] for key in ("ours", "ours, with word vectors")]
    told = [f" {100 * share:.1f}%" for share in shares] + [f" {size} times" for size in sizes]
    seeds = [len(glue.students(task, *report.STUDENTS)[0]) for task in glue.tasks()]
    assert seeds == [5, 3, 3] and "(SST-2 five, others three)" in prose
    assert [number for number in told if number not in prose] == []


@AS_COMMITTED
@pytest.mark.parametrize("profile", ["offline", "glue"])
def test_the_report_on_file_is_the_report_of_the_records(profile):
    results, page = report.load(profile), records.Step("results", profile)
    arms = {t: rows for t in results.tasks() if len(rows := report.ablation(results, t)) > 2}
    made = {"table": report.table(results), "verdicts": report.verdicts(results), "tasks": arms}
    now = json.loads(json.dumps(made))
    filed = page.read() | {"tasks": arms and records.Step("ablation", profile).read()["tasks"]}
    assert {key: filed[key] for key in now} == now
    assert page.read()["inputs"] == page.inputs({})


@pytest.mark.parametrize("page", EXECUTED, ids=name)
def test_an_executed_chapter_ran_to_its_end(page):
    """Reports are of the chapters as they are now; the others are of the commit in their record."""
    (chapter,) = (config.ROOT / "notebooks").glob(f"{page.name[:2]}_*.ipynb")
    ran, source = (nbformat.read(path, as_version=4).cells for path in (page, chapter))
    code = [cell for cell in ran if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    if page.name[:2] in ("06", "07"):
        own, wanted = (  # links lead to the same files from another folder
            {cell.id: cell.source.replace("../../../", "../") for cell in cells}
            for cells in (ran, source)
        )
        own = {key: re.sub(r"\.\./notebooks/(?=0)", "", text) for key, text in own.items()}
        assert {key: text for key, text in own.items() if key in wanted} == wanted


PUBLISHED = [*RESULTS.rglob("*.json"), *EXECUTED, *(config.ROOT / "notebooks").glob("*.ipynb")]


@pytest.mark.parametrize("path", sorted(PUBLISHED), ids=name)
def test_no_path_of_a_machine_is_published(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        notebook = nbformat.reads(text, as_version=4)
        for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
            output.get("data", {}).pop("image/png", None)
        text = nbformat.writes(notebook)
    assert not LOCAL.search(text)
