"""The report against made-up records: what it computes, what it leaves out, and what it reads."""

import json
import runpy
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from distil import config, figures, metrics, records, report

readme = SimpleNamespace(**runpy.run_path(str(config.ROOT / "tools" / "readme.py")))
N = 400
LEARNT = {"plain": {"alpha": 1.0, "synthetic": 0.0, "epochs": 40}}
LEARNT |= {"real-only": {"synthetic": 0.0}, "kl": {"objective": "kl"}}
SETTINGS = {"hidden_size": 150, "lr": 1.0, "batch_size": 50, "alpha": 0.0, "synthetic": 1.0}
SETTINGS |= {"objective": "mse", "epochs": 6, "patience": 3}
OUTPUTS = {"teacher": {"model.safetensors": "t"}, "transfer-set": {"shard": "a"}}
OUTPUTS |= {"student": {"model.safetensors": "s"}}
MADE_OF = {"teacher": {}, "transfer-set": {"teacher/model.safetensors": "t"}}
MADE_OF |= {"student": {"transfer-set/shard": "a"}}


@pytest.fixture
def arms(monkeypatch):
    found = {"distilled": config.Arm()}
    for name, changes in LEARNT.items():
        tasks = [] if name == "plain" else ["sst2"]
        found[name] = config.Arm(tasks=tasks, student=changes)
    found["mine"] = config.Arm(tasks=["sst2"], transfer_set={"p_mask": 0.0})
    monkeypatch.setattr(config, "profile", lambda name: SimpleNamespace(arms=found))


def put(name, accuracy, seed=0, stage="student", profile="p", task="sst2", splits=("dev",), **more):
    """Write one record whose model is right on the first ``accuracy`` of the examples."""
    labels = np.arange(N) % 2
    answers = np.where(np.arange(N) < round(accuracy * N), labels, 1 - labels)
    logits = (np.eye(2)[answers] * 3).astype(np.float32)
    learnt = SETTINGS | LEARNT.get(name, {}) if stage == "student" else {"model": "packages"}
    scores = metrics.evaluate(logits, labels, config.task(task).positive)
    step = records.Step(stage, profile, task, name, seed)
    facts = {"task": task, "dataset": f"{profile}-set", "seed": seed, "role": stage}
    facts |= {"config": learnt | more.pop("config", {}), "metrics": dict.fromkeys(splits, scores)}
    facts |= {"inputs": {"data/train": "d"} | (MADE_OF[stage] if name != "plain" else {})}
    facts |= {"outputs": OUTPUTS[stage], "rows": {"train": 1234}}
    facts |= {"chosen_on": "dev"} if stage == "student" else {}
    put_json(step, **facts | {"history": [0.5, accuracy], "steps": 20, "profile": profile} | more)
    kinds = {"logits": logits, "labels": labels}
    arrays = {f"{split}_{kind}": array for split in splits for kind, array in kinds.items()}
    np.savez(step.path.with_suffix(".npz"), **arrays)


def put_students(plain=0.78, distilled=0.85, **changes):
    put("plain", plain, **changes)
    put("distilled", distilled, **changes)


def put_all(plain=0.78, distilled=0.85, splits=("dev",), **where):
    put("distilled", 0.90, stage="teacher", splits=("dev", "test", *splits[1:]), **where)
    put("distilled", 0.90, stage="transfer-set", **where)
    put_students(plain, distilled, splits=splits, **where)


def table(profile="p"):
    return report.table(report.load(profile))


def ablation():
    return {row["name"]: row for row in report.ablation(report.load("p"), "sst2")}


def put_json(step, **content):
    step.path.parent.mkdir(parents=True, exist_ok=True)
    step.path.write_text(json.dumps({"profile": "p"} | content))


@pytest.fixture
def results(tmp_path, monkeypatch, arms):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    put_json(records.Step("data", "p", "sst2"), task="sst2", dataset="p-set")
    put_all()
    put("real-only", 0.80)
    return tmp_path


def verdict(name):
    loaded = report.load("p")
    text = next(claim["text"] for claim in loaded.paper["claims"] if claim["id"] == name)
    start = text.partition("{model}")[2] or text
    return next(found for found in report.verdicts(loaded) if start in found["claim"])


def test_every_file_of_the_evidence_is_read_once_and_every_pair_resampled_once(results):
    put_all(task="qqp")
    opened = []
    sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
    with mock.patch.object(metrics, "bootstrap", side_effect=metrics.bootstrap) as resampled:
        loaded = report.load("p")
        for use in (report.table, report.verdicts, figures.gains, figures.ablation_arms):
            use(loaded)
    read = [path for path in opened if path.startswith(str(results))]
    assert len(read) == len({*read}) == 19  # 9 records with predictions, 1 of data
    # plain (accuracy; accuracy and F1 of QQP); against distilled: plain (twice), real-only, itself
    assert resampled.call_count == 3 + 2 + 1 + 2
    read = {path.removeprefix(f"{results}/") for path in read if path.endswith(".json")}
    assert read == {path for path in records.evidence("p") if not path.endswith("paper.json")}


def test_the_table_has_our_scores_and_the_papers(results):
    (row,) = table()
    assert (row["dataset"], row["teacher_name"], row["seeds"]) == ("p-set", "MiniLM-L6", [0])
    papers = {"plain": "86.7", "distilled": "90.7", "teacher": "94.9"}
    assert {name: str(score) for name, score in row["paper"].items()} == papers
    value, low, high = row["gain"]
    assert value == pytest.approx(0.07) and low < 0.07 < high
    share, low, high = row["share"]
    assert share == pytest.approx(0.07 / 0.12) and 0 < low < share < high < 1
    assert "| 78.0 | **85.0** | +7.0 [" in report.grid([report.shown(row)])


def test_f1_and_the_mismatched_split_have_their_own_row_beside_the_papers(results):
    put_all(task="qqp")
    accuracy, f1 = [row for row in table() if row["task"] == "qqp"]
    assert f1["metric"] == "f1" and f1["gain"][1:] != accuracy["gain"][1:]
    assert f1["paper"]["distilled"].mean == pytest.approx(0.682)
    where = [v["where"] for v in report.verdicts(report.load("p")) if "f1 on dev" in v["where"]]
    assert where == ["QQP / p-set, f1 on dev, one seed"] * 3
    put_all(task="mnli", splits=("dev", "dev_mismatched"))
    (row,) = [row for row in table() if row["split"] == "dev_mismatched"]
    assert [str(score) for score in row["paper"].values()] == ["68.3", "72.6", "85.9"]


def test_only_seeds_that_both_students_have_are_compared(results):
    put_students(seed=1, distilled=0.87)
    put("distilled", 0.99, seed=2)
    (row,) = table()
    assert row["distilled"] == pytest.approx((0.86, np.std([0.85, 0.87], ddof=1)))
    assert str(row["distilled"]) == "86.0 ± 1.4"
    assert verdict("gain")["where"].endswith("accuracy on dev, 2 seeds")
    rows = ablation()
    assert rows["real-only"]["seeds"] == [0] and rows["distilled"]["all_seeds"] == [0, 1, 2]
    assert rows["real-only"]["gain"].value == pytest.approx(-0.05)


COMPATIBLE = "compatible: the paper's number lies in our interval"
JUDGED = {
    (0.03, 0.0021, 0.05): ("reproduced", COMPATIBLE),
    (0.03, 0.0019, 0.05): ("undecided: the interval ends within 0.2 points of 0", COMPATIBLE),
    (0.03, -0.001, 0.05): ("undecided: the interval includes 0", f"{COMPATIBLE}, but so does 0"),
    (-0.03, -0.05, -0.001): ("undecided: the interval ends within 0.2 points of 0", "smaller"),
    (-0.03, -0.05, -0.003): ("not reproduced: the other way round", "smaller than the paper's"),
    (0.01, -0.01, 0.03): ("undecided: the interval includes 0", "smaller than the paper's"),
    (0.07, 0.05, 0.09): ("reproduced", "larger than the paper's"),
}


@pytest.mark.parametrize("estimate", JUDGED)
def test_a_sign_needs_a_margin_and_a_size_is_judged_by_where_the_papers_number_lies(estimate):
    (sign, size), ours = JUDGED[estimate], report.Estimate(*estimate)
    assert ours.sign() == sign and -ours == (-ours.value, -ours.high, -ours.low)
    assert ours.size(0.04).startswith(size) and (size != COMPATIBLE or ours.size(0.04) == size)


def test_a_claim_is_judged_by_what_it_says(results):
    put("distilled", 0.89)
    assert verdict("gain")["verdict"] == "reproduced"
    assert verdict("gap")["verdict"] == "larger than the paper's"  # a share: 92% against 49%
    put("plain", 0.895)  # the teacher has 0.90
    assert verdict("gap")["verdict"].startswith("undecided: the teacher's lead")
    put_students()
    found = verdict("real-only")  # the arm is worse
    assert found["verdict"] == "reproduced" and found["where"].endswith("dev, one seed")
    put("real-only", 0.90)
    assert verdict("real-only")["verdict"] == "not reproduced: the other way round"


OTHER_SET = {"data/train": "d", "transfer-set/shard": "b"}
UNLIKE = [
    ("plain", {"config": {"hidden_size": 75}}, "other hidden_size"),
    ("plain", {"config": {"lr": 0.1}}, "other lr"),
    ("plain", {"config": {"batch_size": 64}}, "other batch_size"),
    ("plain", {"config": {"epochs": 7}}, "other epochs"),
    ("plain", {"inputs": {"data/train": "x"}}, "other data"),
    ("distilled", {"config": {"epochs": 9}}, "other epochs"),
    ("distilled", {"chosen_on": "held_out"}, "other choice of the epoch"),
    ("kl", {"inputs": OTHER_SET}, "other transfer set"),
    ("kl", {"config": {"objective": "mse"}}, "other objective"),
    ("unknown", {}, "no such arm"),
]


@pytest.mark.parametrize(("name", "changes", "why"), UNLIKE)
def test_a_student_that_may_not_be_compared_is_left_out_and_named(results, name, changes, why):
    put(name, 0.99, seed=1, **changes)
    assert report.load("p").left_out == [f"sst2 {name}, seed 1: {why}"]
    assert table()[0]["seeds"] == [0]


def test_what_has_no_partner_leaves_no_row_and_is_named(results):
    put("distilled", 0.8, stage="teacher", task="mnli")
    assert report.load("p").left_out == ["mnli: teacher, plain or distilled is missing"]
    put("plain", 0.78, config={"hidden_size": 75})
    assert table() == []
    put("plain", 0.78)
    assert len(table()) == 1
    put("distilled", 0.9, stage="teacher", outputs={"model.safetensors": "retrained"})
    assert table() == [] and "the transfer set on record" in report.load("p").left_out[0]


def test_verdicts_come_from_test_where_there_is_one(results):
    put_students(splits=("dev", "test"))
    assert {row["split"]: row["verdict_split"] for row in table()} == {"dev": False, "test": True}
    where = "SST-2 / p-set, accuracy on test, epoch chosen on dev, one seed"
    assert verdict("gain")["where"] == where


def test_arms_are_judged_on_dev_and_test_where_neither_chose_an_epoch(results):
    kept = {"splits": ("dev", "test"), "chosen_on": "held_out", "held_out_history": [0.1, 0.2]}
    for name, score in (("plain", 0.78), ("distilled", 0.85), ("real-only", 0.80)):
        put(name, score, **kept)
    row = report.ablation(report.load("p"), "sst2")[-1]
    assert (row["name"], row["split"], row["examples"]) == ("real-only", "dev + test", 2 * N)
    where = "test, epoch chosen on held-out train, one seed"
    assert verdict("real-only")["where"].endswith(f"dev + {where}")
    assert verdict("gain")["where"].endswith(f"on {where}")


def test_an_arm_has_a_reference_and_one_with_a_teacher_of_its_own_a_row_of_its_own(results):
    arms = config.profile("p").arms
    arms["other"] = config.Arm(teacher={"model": "packages-mpnet"})
    arms["mine"] = arms["mine"].model_copy(update={"against": "other"})
    for stage, accuracy in (("teacher", 0.95), ("transfer-set", 0.95), ("student", 0.88)):
        put("other", accuracy, stage=stage)
    put("mine", 0.9, stage="transfer-set")
    put("mine", 0.84)
    (ours, row), gains = table(), ablation()
    assert (ours["distilled"].mean, ours["teacher"].mean, row["plain"].mean) == (0.85, 0.9, 0.78)
    assert (row["distilled"].mean, row["teacher"].mean) == (0.88, 0.95)
    assert row["gain"].value == pytest.approx(0.1) and row["paper"] == ours["paper"]
    assert gains["mine"]["against"] == "other"
    assert gains["mine"]["gain"].value == pytest.approx(-0.04)
    assert gains["other"]["gain"].value == pytest.approx(0.03)


def test_students_are_compared_at_the_step_where_plain_stopped(results):
    plain = {"history": [0.7, 0.78, 0.6], "steps": 30}
    ours = {"history": [0.74, 0.8, 0.85], "steps": 75}  # an epoch has 25 steps
    kept = {"chosen_on": "held_out", "held_out_history": [0.9, 0.8, 0.8]}  # it likes the first
    for score, more in ((0.78, {}), (0.7, kept)):
        put("plain", score, **plain, **more)
        put("distilled", 0.85, **ours, **more)
        wanted = {"steps": 30, "plain": score, "distilled": 0.74}
        assert report.equal_steps(report.load("p"), "sst2") == pytest.approx(wanted)
    put("distilled", 0.85, **ours | kept | {"steps": 93})
    assert report.equal_steps(report.load("p"), "sst2") is None


def test_profiles_are_not_mixed(results):
    put("plain", 0.78, profile="q")
    path = records.Step("student", "q", "sst2", "plain").path
    path.write_text(path.read_text().replace('"profile": "q"', '"profile": "p"'))
    with pytest.raises(records.RecordError, match=r"q/sst2/plain/.* says it is of p/sst2"):
        report.load("q")


SIZES = {"total": 10_563_002, "non_embedding": 963_002}
MODELS = [
    {"name": "student", "n_params": SIZES, "sentences_per_second": 100.0},
    {"name": "minilm", "n_params": SIZES, "sentences_per_second": 9.0},
    {"name": "bert-large", "n_params": {"total": 335_143_938}, "sentences_per_second": 2.0},
]


def test_table_2_divides_the_large_model_by_the_student_and_floors_are_columns(results):
    assert readme.table_2(report.load("p")) == []
    put_json(records.Step("speed", "p"), device="CPU", models=MODELS)
    (line,) = readme.table_2(report.load("p"))
    with pytest.raises(records.RecordError, match="into the page"):
        readme.rewrite("no block", "")
    keys = ("ours", "ours, with word vectors", "time: ours, batches of 512", "on")
    assert [line[key] for key in keys] == ["348x", "32x", "50x", "CPU"]
    models = [row | {"slower": {"single": [40, 50, 60]}} for row in MODELS]
    put_json(records.Step("speed", "p"), device="CPU", models=models)
    assert readme.table_2(report.load("p"))[0]["time: ours, one sentence"] == "40 to 60x"
    floor = {"majority": {"dev": {"accuracy": 0.51}, "test": {"accuracy": 0.5}}}
    assert "majority" not in report.shown(table()[0])
    put_json(records.Step("data", "p", "sst2"), task="sst2", dataset="p-set", floors=floor)
    assert report.shown(table()[0])["majority"] == "51.0"


def test_the_gains_figure_plots_the_verdict_rows_beside_the_paper(results):
    put_all(profile="q", plain=0.7, distilled=0.8)
    loaded = report.load("p")
    axes = figures.gains(loaded).axes[0]
    plotted = sorted(float(x) for line in axes.lines[:-1] for x in line.get_xdata())
    ends = [100 * end for end in table()[0]["gain"][1:]]
    assert plotted == pytest.approx(sorted([*ends, 7.0, 4.0]))
    axes = figures.gains(report.load("q"), loaded).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"for SST-2, accuracy, MiniLM-L6\n{q}-set, dev, one seed" for q in "qp"]
    put("distilled", 0.8, stage="teacher", dataset="$0_$9")
    put_students(dataset="$0_$9")
    (figure := figures.gains(report.load("p"))).canvas.draw()
    label = figure.axes[0].get_yticklabels()[0]
    assert "$0_$9" in label.get_text() and not label.get_parse_math()  # it is no formula
    assert report.as_text("a|b\n&amp;") == r"a\|b \&amp;"
