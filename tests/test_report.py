"""The report against records made up for the purpose: it computes, it does not mix profiles, and README cannot drift."""

import numpy as np
import pytest

from distil import claims, config, figures, metrics, paths, readme, records, report, speeds
from distil.records import KEYS, RecordError

N = 400


def put(profile, task, role, accuracy, seed=0, arm="", **changes):
    rng = np.random.default_rng([seed, len(role), int(1000 * accuracy)])
    labels = np.arange(N) % 2
    answers = np.where(np.arange(N) < round(accuracy * N), labels, 1 - labels)
    logits = np.eye(2)[answers] + 0.1 * rng.random((N, 2))
    record = {key: {} for key in KEYS} | {"profile": profile, "task": task, "role": role, "seed": seed, "seconds": 1.0}
    record |= {
        "dataset": "some-set",
        "metrics": {"dev": {"accuracy": round(accuracy * N) / N}},
        "rows": {"train": 1234},
    }
    record |= {"config": {"model": "packages"}, "history": [0.5, accuracy], "steps": 20} | changes
    records.write(paths.run_record(profile, task, role, seed, arm), record, {"dev": (logits, labels)})


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    arms = {name: config.Arm(name, "sst2", {"student": {}}) for name in ("real-only", "kl")}
    monkeypatch.setattr(config, "arms", lambda profile: arms)
    records.write(paths.data_record("p", "sst2"), {"profile": "p", "task": "sst2", "dataset": "some-set"})
    put("p", "sst2", "teacher", 0.90)
    put("p", "sst2", "transfer-set", 0.90)
    put("p", "sst2", "student-baseline", 0.78)
    put("p", "sst2", "student-distilled", 0.85)
    put("p", "sst2", "student-distilled", 0.80, arm="real-only")
    return tmp_path


def test_the_table_holds_the_records_and_the_paper(results):
    (row,) = report.table("p")
    assert (row["dataset"], row["teacher_name"], row["seeds"]) == ("some-set", "MiniLM-L6", [0])
    assert row["student-distilled"][0] == 0.85 and row["gain"][0] == pytest.approx(0.07)
    assert row["paper"] == pytest.approx({"teacher": 0.949, "student-baseline": 0.867, "student-distilled": 0.907})
    assert row["gain"][1] < 0.07 < row["gain"][2]
    line = report.markdown("p").splitlines()[-1]
    assert "78.0" in line and "**85.0**" in line and "+7.0" in line and "86.7 → 90.7" in line


def test_several_seeds_show_their_spread(results):
    put("p", "sst2", "student-distilled", 0.87, seed=1)
    put("p", "sst2", "student-distilled", 0.99, seed=2)  # left out: the plain student has no such seed
    put("p", "sst2", "student-baseline", 0.78, seed=1)
    (row,) = report.table("p")
    assert row["student-distilled"] == (pytest.approx(0.86), pytest.approx(np.std([0.85, 0.87], ddof=1)))
    assert "86.0 ± 1.4" in report.markdown("p")


def verdict(profile, start):
    return next(c["verdict"] for c in claims.claims(profile) if c["claim"].startswith(start))


def test_verdicts_follow_the_numbers(results):
    assert verdict("p", "The distilled student gains") == "reproduced"
    put("p", "sst2", "student-distilled", 0.785)
    assert verdict("p", "The distilled student gains") == "undecided: the interval includes 0"
    assert verdict("p", "The gain is of") == "smaller than the paper's"  # the interval has 0, but not 4.0
    put("p", "sst2", "student-distilled", 0.70)
    assert verdict("p", "The distilled student gains") == "not reproduced: the other way round"


@pytest.mark.parametrize(
    "gain, size",  # the paper's gain is 0.04
    [
        ((0.03, 0.01, 0.05), "compatible: the paper's gain lies in our interval, 4.0 points wide"),
        ((0.02, -0.01, 0.05), "compatible, as is no gain: both lie in our interval, 6.0 points wide"),
        ((0.01, -0.01, 0.03), "smaller than the paper's"),
        ((-0.02, -0.03, -0.01), "smaller than the paper's"),
        ((0.07, 0.05, 0.09), "larger than the paper's"),
    ],
)
def test_the_size_of_a_gain_is_judged_by_where_the_papers_lies(gain, size, results, monkeypatch):
    (row,) = report.table("p")
    monkeypatch.setattr(report, "table", lambda profile: [row | {"gain": gain}])
    assert verdict("p", "The gain is of") == size


def test_the_ablation_compares_with_the_full_method(results):
    rows = {row["name"]: row for row in report.ablation("p", "sst2")}
    assert rows["full"]["difference"] == (0, 0, 0)
    assert rows["real-only"]["difference"][0] == pytest.approx(-0.05)
    assert verdict("p", "Synthetic examples help") == "reproduced"


def test_a_student_of_a_transfer_set_made_since_again_is_left_out(results):
    put("p", "sst2", "transfer-set", 0.9, outputs={"transfer-set": "new"})
    put("p", "sst2", "student-distilled", 0.86, inputs={"transfer-set": "new"})
    put("p", "sst2", "student-distilled", 0.70, seed=1, inputs={"transfer-set": "old"})
    (row,) = report.table("p")
    assert row["seeds"] == [0] and row["student-distilled"][0] == 0.86
    assert any(line.startswith("sst2 student-distilled: 1 of another config, data") for line in claims.missing("p"))


def test_runs_of_another_config_data_or_teacher_are_left_out(results):
    put("p", "sst2", "student-distilled", 0.99, seed=1, config={"model": "packages", "epochs": 9})
    put("p", "sst2", "student-distilled", 0.99, seed=2, inputs={"data/train": "other"})
    put("p", "sst2", "student-distilled", 0.99, arm="kl", config={"model": "other"})
    assert report.table("p")[0]["student-distilled"] == (0.85, 0.0)
    assert [row["name"] for row in report.ablation("p", "sst2")] == ["plain", "full", "real-only"]
    assert report.left_out("p", "sst2") == 2 and report.left_out("p", "sst2", arm="kl") == 1
    put("p", "sst2", "transfer-set", 0.9, inputs={"teacher/model.safetensors": "another"})
    assert report.table("p") == []  # no student learned from a set that the teacher on record labelled


def test_students_of_two_teachers_do_not_share_a_row(results):
    put("p", "sst2", "student-distilled", 0.99, seed=1, teacher_seed=1)
    put("p", "sst2", "student-baseline", 0.78, seed=1)
    assert report.table("p")[0]["seeds"] == [0] and report.left_out("p", "sst2") == 1


def test_an_arm_with_a_folder_of_the_users_is_told_by_the_folders_name(results, monkeypatch):
    arms = {"mine": config.Arm("mine", "sst2", {"student": {"vectors": "/data/glove.txt"}})}
    monkeypatch.setattr(config, "arms", lambda profile: arms)
    put("p", "sst2", "student-distilled", 0.9, arm="mine", config={"model": "packages", "vectors": "glove.txt"})
    assert "mine" in [row["name"] for row in report.ablation("p", "sst2")]


def test_a_gap_is_taken_over_the_seeds_that_both_have(results):
    put("p", "sst2", "student-distilled", 0.99, seed=1)
    full, arm = (report.students_of("p", "sst2", name) for name in ("full", "real-only"))
    assert len(full) == 2 and report.gap(full, arm)[0] == pytest.approx(-0.05)
    assert report.gap(arm, full)[0] == pytest.approx(0.05)


def test_verdicts_are_taken_from_test_where_there_is_one(results):
    (row,) = report.table("p")
    assert (row["split"], row["judged"]) == ("dev", True)
    for role in ("teacher", "student-baseline", "student-distilled"):
        path = paths.run_record("p", "sst2", role, 0)
        record, predictions = records.read(path), records.read_predictions(path)
        record["metrics"]["test"] = record["metrics"]["dev"]
        records.write(path, record, predictions | {"test": predictions["dev"]})
    assert {row["split"]: row["judged"] for row in report.table("p")} == {"dev": False, "test": True}


def test_an_arm_with_a_transfer_set_of_its_own_is_kept(results):
    put("p", "sst2", "transfer-set", 0.9, outputs={"transfer-set": "main"})
    put("p", "sst2", "student-distilled", 0.85, inputs={"transfer-set": "main"})
    put("p", "sst2", "transfer-set", 0.9, arm="kl", outputs={"transfer-set": "own"})
    put("p", "sst2", "student-distilled", 0.84, arm="kl", inputs={"transfer-set": "own"})
    put("p", "sst2", "student-distilled", 0.80, arm="real-only", inputs={"transfer-set": "own"})
    assert [row["name"] for row in report.ablation("p", "sst2")] == ["plain", "full", "kl"]


def test_students_are_lined_up_by_the_examples_they_learned_from(results, monkeypatch):
    arms = {
        name: config.Arm(name, "sst2", {"student": {"synthetic": share}})
        for name, share in (("half", 0.5), ("none", 0.0))
    }
    arms["kl"] = config.Arm("kl", "sst2", {"student": {"objective": "kl"}})
    monkeypatch.setattr(config, "arms", lambda profile: arms)
    put("p", "sst2", "student-distilled", 0.85, training_examples=1000)
    for role in config.ROLES:  # a seed that the arms lack: neither the points nor the lines may be of it
        put("p", "sst2", role, 0.5, seed=1, training_examples=1000)
    for name, score, size in (("half", 0.82, 500), ("none", 0.80, 100), ("kl", 0.70, 1000)):
        changed = {"model": "packages"} | arms[name].changed()
        put("p", "sst2", "student-distilled", score, arm=name, training_examples=size, config=changed)
    rows = report.by_size("p", "sst2")
    assert [(row["name"], row["examples"]) for row in rows] == [("none", 100), ("half", 500), ("full", 1000)]
    assert [row["score"][0] for row in rows] == pytest.approx([0.80, 0.82, 0.85])
    assert all(row["score"][1] < row["score"][0] < row["score"][2] for row in rows)
    axes = figures.size_curve("p").axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100\n1 seed", "500\n1 seed", "1k\n1 seed"]
    lines = {line.get_label(): line.get_ydata()[0] for line in axes.lines}
    assert lines["plain BiLSTM"] == pytest.approx(78) and lines["its teacher"] == pytest.approx(90)


def test_profiles_are_never_mixed(results):
    path = paths.run_record("p", "sst2", "teacher", 0)
    records.write(path, records.read(path) | {"profile": "other"})
    with pytest.raises(RecordError, match="profiles are not mixed"):
        report.table("p")


def put_speed(profile="p", small=963_002):
    large = {"name": "bert-large", "n_params": {"total": 335_143_938}, "mflops": 18_000.0}
    large |= {"sentences_per_second": 2.0, "sentences": 64}
    n_params = {"total": 10_563_002, "non_embedding": small}
    student = {"name": "student", "n_params": n_params, "mflops": 50.0, "sentences_per_second": 100.0, "sentences": 512}
    models = [large, student]
    path = paths.RESULTS / "speed" / "p.json"
    records.write(path, {"profile": profile, "device": "CPU, 2 threads", "models": models})


def test_a_speed_record_of_another_profile_is_refused_by_name(results):
    put_speed("other")
    with pytest.raises(RecordError, match=r"speed/p.json says it is of other"):
        claims.claims("p")


def test_table_2_divides_the_large_model_by_the_student(results):
    assert speeds.table_2("p") == ({}, {}, [])
    put_speed()
    record, student, (ratios,) = speeds.table_2("p")  # there is no ELMo in it
    assert (record["device"], student["sentences"], ratios.sentences) == ("CPU, 2 threads", 512, 64)
    assert ratios.published["model"] == "BERT_LARGE"
    found = (ratios.larger, ratios.larger_in_full, ratios.more_arithmetic, ratios.slower)
    assert found == pytest.approx((348.02, 31.728, 360.0, 50.0), rel=1e-4)


def test_the_ratio_of_parameters_is_judged_by_its_number(results):
    put_speed()
    assert verdict("p", "BERT_LARGE has").startswith("reproduced")
    assert verdict("p", "BERT_LARGE takes").startswith("not comparable: CPU")
    put_speed(small=2 * 963_002)
    assert verdict("p", "BERT_LARGE has").startswith("not reproduced")


def test_runs_scored_on_other_examples_are_not_compared(results):
    path = paths.run_record("p", "sst2", "student-baseline", 0)
    logits, labels = records.read_predictions(path)["dev"]
    records.write(path, records.read(path), {"dev": (logits, 1 - labels)})
    with pytest.raises(RecordError, match="p/sst2: runs have other dev examples"):
        report.table("p")


def test_the_mismatched_split_stands_beside_its_own_column():
    found = [report.paper_score("mnli", role, split="dev_mismatched") for role in report.PAPER_ROWS]
    assert found == pytest.approx([0.859, 0.683, 0.726])


def test_a_task_without_all_its_runs_is_left_out_and_said_to_be(results):
    put("p", "mnli", "teacher", 0.8)
    assert [row["task"] for row in report.table("p")] == ["sst2"]
    found = [line.partition(":")[0] for line in claims.missing("p")]
    assert found == ["qqp", "mnli", "Table 2", "arms of the ablation without a record (make ablation)"]


def test_an_arm_of_other_data_is_left_out_and_not_called_absent(results):
    put("p", "sst2", "student-distilled", 0.8, arm="kl", inputs={"data/train": "of another cut"})
    about_arms = claims.missing("p")[-1:]
    assert about_arms == ["sst2 kl: 1 of another config, data, teacher or transfer set than on record"]
    assert not any("make ablation" in line for line in claims.missing("p"))


def test_readme_is_rewritten_and_a_changed_number_is_noticed(results):
    text = readme.readme(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", ["p", "no-such"])
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "**85.0**" in text
    assert readme.readme(text, ["p"]) == text
    assert readme.readme(text.replace("85.0", "85.1"), ["p"]) == text
    with pytest.raises(RecordError, match="no block"):
        readme.readme("no block", ["p"])
    with pytest.raises(RecordError, match="no task of q is complete"):
        readme.readme(text, ["q"])


def test_a_link_to_code_finds_its_line_or_says_that_there_is_none(tmp_path):
    (tmp_path / "code.py").write_text("import os\n\nclass A:\n    def run_all(self): ...\n\ndef run(): ...\n")
    text = "see [run](code.py#L1), [A](code.py#L99) and [run_all](code.py#L4)"
    assert readme.anchors(text, tmp_path) == "see [run](code.py#L6), [A](code.py#L3) and [run_all](code.py#L4)"
    with pytest.raises(RecordError, match="does not define gone"):
        readme.anchors("[gone](code.py#L1)", tmp_path)


def test_the_gains_figure_plots_the_table(results):
    axes = figures.gains("p").axes[0]
    plotted = sorted({round(float(y), 6) for line in axes.lines for y in line.get_ydata()})
    _, low, high = next(row["gain"] for row in report.table("p") if row["judged"])
    assert plotted == pytest.approx(sorted([78, 85, 90, 86.7, 90.7, 94.9, 78 + 100 * low, 78 + 100 * high]))


def test_several_profiles_stand_beside_one_number_of_the_paper(results):
    records.write(paths.data_record("q", "sst2"), {"profile": "q", "task": "sst2", "dataset": "other-set"})
    for role, accuracy in (
        ("teacher", 0.9),
        ("transfer-set", 0.9),
        ("student-baseline", 0.7),
        ("student-distilled", 0.8),
    ):
        put("q", "sst2", role, accuracy, dataset="other-set")
    labels = [label.get_text().split("\n")[0] for label in figures.gains("q", "p").axes[0].get_xticklabels()]
    assert labels == ["SST-2", "other-set", "some-set"]


def test_the_ablation_figure_plots_the_differences(results):
    put("p", "sst2", "student-distilled", 0.845, arm="kl")
    axes = figures.ablation_arms("p", {"sst2": report.ablation("p", "sst2")}).axes[0]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in points] == pytest.approx([-7, -5, -0.5])
    told = [row["difference"][2] < 0 for row in report.ablation("p", "sst2") if row["name"] != "full"]
    assert [line.get_markerfacecolor() == "0.1" for line in points] == told == [True, True, False]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["plain (1 seed)", "3.1 networks", "real-only (1 seed)", "kl (1 seed)"]


@pytest.mark.parametrize(
    ("stage", "changes", "section"),
    [
        ("transfer_set", {"p_mask": 0.0}, "3.3 transfer set"),
        ("student", {"synthetic": 0.0, "epochs": 40}, "3.3 transfer set"),
        ("student", {"objective": "kl", "temperature": 3.0}, "3.2 objective"),
        ("student", {"pooling": "attention"}, "3.1 networks"),
        ("teacher", {"pair_input": "separate"}, "3.1 networks"),
        ("teacher", {"model": "packages-mpnet"}, "beyond the paper"),
    ],
)
def test_arms_stand_under_the_section_that_they_change(results, monkeypatch, stage, changes, section):
    monkeypatch.setattr(config, "arms", lambda profile: {"arm": config.Arm("arm", "sst2", {stage: changes})})
    changed = {"model": "packages"} | (changes if stage == "student" else {})
    put("p", "sst2", "student-distilled", 0.84, arm="arm", config=changed)
    (axes,) = figures.ablation_arms("p", {"sst2": report.ablation("p", "sst2")}).axes
    assert [label.get_text() for label in axes.get_yticklabels()][1:] == [section, "arm (1 seed)"]


def test_the_curves_ring_the_epoch_that_dev_chose(results):
    (axes,) = figures.curves("p").axes
    rings = [line.get_xydata()[0].tolist() for line in axes.lines if len(line.get_xdata()) == 1]
    assert rings == [[20, 78], [20, 85]]  # two epochs of ten steps, of which the second is the better


def test_the_calibration_figure_says_how_far_each_model_is_from_the_diagonal(results):
    (axes,) = figures.calibration("p").axes
    assert {"plain BiLSTM", "distilled BiLSTM", "its teacher"} <= {line.get_label() for line in axes.lines}
    assert figures.calibration_error(np.array([0.9, 0.7]), np.array([0.8, 0.8])) == pytest.approx(0.1)
    (run,) = report.load_students("p", "sst2", "student-distilled")
    sure, right = metrics.reliability(*run.predictions["dev"])
    error = 100 * np.mean([abs(a - b) for a, b in zip(sure, right, strict=True)])
    assert f"distilled {error:.1f}," in axes.get_xlabel()


def test_the_papers_numbers_are_the_published_ones():
    assert report.paper_score("qqp", "student-distilled", "f1") == pytest.approx(0.682)
    assert report.paper_score("mnli", "student-baseline") == pytest.approx(0.687)
    assert len(report.paper()["table_1"]["rows"]) == 9
