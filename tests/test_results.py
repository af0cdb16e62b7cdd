"""The committed evidence: complete, small, scrubbed, and every score computed again from its logits."""

import json
import re
import subprocess

import pytest

from distil import metrics, paths, readme, records, report
from distil.records import KEYS
from distil.tasks import PAPER, TASKS

ROOT = paths.ROOT / "results"
PROFILES = [p.name for p in sorted((ROOT / "runs").glob("*")) if p.is_dir() and p.name != "smoke"]


def replaced() -> set[str]:
    """Profiles with records other than the committed ones: a user's own runs, of whom these tests ask nothing."""
    words = ["git", "status", "--porcelain", "--untracked-files=all", "--", "results/runs", "results/ablation"]
    done = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    return {line[3:].split("/")[2] for line in done.stdout.splitlines()}


REPLACED = replaced()
AS_COMMITTED = pytest.mark.skipif("offline" in REPLACED, reason="the records of offline are not those committed")
RUNS = [
    path
    for part in ("runs", "ablation")
    for profile in PROFILES
    if profile not in REPLACED
    for path in sorted((ROOT / part / profile).glob("*/*.json"))
]
OTHERS = [
    path
    for part in ("data", "speed", "report")
    for path in sorted((ROOT / part).rglob("*.json"))
    if not path.relative_to(ROOT).as_posix().startswith((f"{part}/smoke",))
]
EXECUTED = [path for profile in PROFILES for path in sorted((ROOT / "executed" / profile).rglob("*.ipynb"))]
name = lambda path: str(path.relative_to(ROOT))  # noqa: E731


@AS_COMMITTED
def test_the_offline_run_is_complete():
    roles = ("teacher", "transfer-set", "student-baseline", "student-distilled")
    for task in PAPER:
        for role in roles:
            path = ROOT / "runs" / "offline" / task / f"{role}-seed0.json"
            assert path.exists(), f"no record {name(path)}: run 'make reproduce' and commit results/"


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_record_has_its_keys_and_its_scores_follow_from_its_logits(path):
    record = records.read(path)
    assert path.stat().st_size < 8192 and not set(KEYS) - set(record)
    assert path.parts[-3:-1] == (record["profile"], record["task"])
    assert path == paths.run_record(
        record["profile"], record["task"], record["role"], record["seed"], record.get("arm", "")
    )
    predictions = records.read_predictions(path)
    assert set(predictions) == set(record["metrics"])
    for split, (logits, labels) in predictions.items():
        again = metrics.evaluate(logits, labels, f1=TASKS[record["task"]].f1)
        assert record["metrics"][split] == pytest.approx(again, abs=1e-9), split
        assert len(labels) == record["rows"][split.removesuffix("_untouched")]
    assert set(record["n_params"]) == {"total", "non_embedding"} and not record["git"]["dirty"]


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_students_score_is_the_best_of_its_epochs(path):
    record = records.read(path)
    if record["role"].startswith("student"):
        assert record["metrics"]["dev"]["accuracy"] == pytest.approx(max(record["history"]), abs=1e-9)


@pytest.mark.parametrize("path", [path for path in RUNS if "transfer-set" in path.stem], ids=name)
def test_a_transfer_set_was_labelled_by_the_teacher_on_record(path):
    record = records.read(path)
    teachers = [path.with_name(path.name.replace("transfer-set", "teacher"))]
    teachers.append(paths.run_record(record["profile"], record["task"], "teacher", record["seed"]))
    teacher = records.read(next(path for path in teachers if path.exists()))
    for file, digest in teacher["outputs"].items():
        assert record["inputs"][f"teacher/{file}"] == digest
    assert record["inputs"]["data/train"] == teacher["inputs"]["data/train"]


@pytest.mark.parametrize("path", [path for path in RUNS if "teacher" not in path.stem], ids=name)
def test_a_student_learned_from_the_transfer_set_on_record(path):
    record = records.read(path)
    if record["role"] != "student-distilled":
        return
    home = [path.with_name(f"{record['arm']}-transfer-set-seed{record['teacher_seed']}.json")]
    home.append(paths.run_record(record["profile"], record["task"], "transfer-set", record["teacher_seed"]))
    transfer_set = records.read(next(path for path in home if path.exists()))
    assert record["inputs"]["transfer-set"] == transfer_set["outputs"]["transfer-set"]
    assert record["inputs"]["data/dev"] == transfer_set["inputs"]["data/dev"]


@AS_COMMITTED
def test_the_offline_claims():
    """The teacher beats the plain student everywhere; on the movie snippets distillation brings four points, seeds averaged."""
    rows = {row["task"]: row for row in report.table("offline") if (row["split"], row["metric"]) == ("dev", "accuracy")}
    assert all(row["teacher"][0] > row["student-baseline"][0] for row in rows.values()) and set(rows) == set(PAPER)
    assert len(rows["sst2"]["seeds"]) >= 3 and rows["sst2"]["gain"][0] >= 0.04


def test_the_pages_show_the_committed_records_and_the_lines_of_the_code(capsys):
    assert readme.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", ["README.md", "docs/method.md"])
def test_every_link_and_figure_of_a_page_exists(page):
    page = paths.ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#\w+)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_row_of_the_method_names_code_and_a_test():
    rows = (paths.ROOT / "docs" / "method.md").read_text(encoding="utf-8").split("\n|---")[1].split("\n\n")[0]
    rows = [row.split("|")[1:-1] for row in rows.splitlines()[1:]]
    assert len(rows) > 20
    for item, _, _, code, test in rows:
        assert re.search(r"\]\(\.\./distil/\w+\.py#L\d+\)", code), item
        assert re.search(r"\[test_\w+\]\(\.\./tests/\w+\.py#L\d+\)", test), item


@pytest.mark.parametrize(
    "path", [*RUNS, *OTHERS, *EXECUTED, *sorted(paths.NOTEBOOKS.glob("*.ipynb"))], ids=lambda p: p.name
)
def test_nothing_of_a_machine_is_published(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        for cell in cells:
            for output in cell.get("outputs", []):
                output.get("data", {}).pop("image/png", None)
        text = json.dumps(cells)
    found = re.search(r"(?<![\w.])/(home|root|tmp|work|Users|var|opt)/[\w.-]+", text)
    assert not found, found[0]


@pytest.mark.parametrize("path", EXECUTED, ids=name)
def test_executed_notebooks_ran_to_their_end(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("path", EXECUTED, ids=name)
def test_executed_notebooks_are_the_chapters_as_they_stand(path):
    """Cell by cell, but for the values that were passed in: what a reader sees run is what the repository holds."""
    (chapter,) = (ROOT.parent / "notebooks").glob(f"{path.name[:2]}_*.ipynb")
    executed, source = (
        {cell["id"]: "".join(cell["source"]) for cell in json.loads(one.read_text(encoding="utf-8"))["cells"]}
        for one in (path, chapter)
    )
    injected = {key for key in executed if key not in source}
    assert len(injected) <= 1 and {key: text for key, text in executed.items() if key in source} == source
