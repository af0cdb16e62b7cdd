"""The dry run: its arithmetic against closed forms, its steps against Make's, its sizes against the configs."""

import json
import math
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from distil import config, costs, paths, plan, steps
from distil.steps import Step

H100, V100 = 0, 1


@pytest.fixture(autouse=True)
def no_folder_of_glue(monkeypatch):
    """Sizes are GLUE's own here, whatever part of it the machine has."""
    monkeypatch.delenv("GLUE_DIR", raising=False)


def one(notebook, task, profile="paper", role="", arm=""):
    step = Step(notebook, profile, task, role, arm, 0, 0)
    return costs.cost(step, costs.sizes(step))


def table(*arguments, capsys):
    assert plan.main(list(arguments)) == 0
    return capsys.readouterr().out.split("\nESTIMATES")[0]


def figures(text):
    """Step -> its cells, from the lines that carry figures."""
    found = re.findall(r"^(\w* +0\d_\S+) +([\d,]+|-) (.*)$", text, flags=re.M)
    return {" ".join(name.split()): (examples, rest) for name, examples, rest in found}


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_bert_large_has_its_published_parameters():
    assert costs.BERT_LARGE.total == 335_141_888
    assert costs.BERT_LARGE.total - costs.BERT_LARGE.non_embedding == (30_522 + 512 + 2) * 1024


SHAPES = {
    "bert-large": "google-bert/bert-large-uncased",
    "bert-base": "google-bert/bert-base-uncased",
    "minilm": "packages",
}


@pytest.mark.parametrize("name, key", SHAPES.items())
def test_the_shapes_have_the_parameters_that_were_counted(name, key):
    record = json.loads((paths.ROOT / "results" / "speed" / "offline.json").read_text())
    counted = next(row["n_params"] for row in record["models"] if row["name"] == name)
    shape = costs.MODELS[key]
    head = 2 * (shape.width + 1)
    assert (shape.total + head, shape.non_embedding + head) == (counted["total"], counted["non_embedding"])


def test_the_student_of_table_2_has_the_papers_parameters():
    assert costs.student_weights(plan.TASKS["sst2"], 150, 200, 600) == 963_002


@pytest.mark.parametrize(
    "path", sorted((paths.ROOT / "results" / "runs" / "offline").glob("*/student-*.json")), ids=str
)
def test_the_formula_of_the_student_gives_the_parameters_that_were_counted(path):
    record = json.loads(path.read_text())
    c, counted = record["config"], record["n_params"]
    weights = costs.student_weights(plan.TASKS[record["task"]], c["hidden_size"], c["fc_size"], 2 * 50)
    assert weights == counted["non_embedding"]
    assert weights + 2 * 50 * record["vocabulary"]["words"] == counted["total"]


def test_a_teachers_time_and_memory_in_closed_form():
    # BERT_LARGE on SST-2: 4 rates of 3 passes over 67,349 rows in batches of 32, 24 layers.
    pieces = 67_349 * costs.PIECES["sst2"]
    launches = 4 * 3 * 2_105 * 24 * costs.TRAIN_LAYER
    computing = 6 * 303_361_024 * 12 * pieces / (15.7e12 * costs.TRAIN_USE)
    found = one("02_teacher", "sst2")
    host = costs.START + 4 * pieces / costs.FEED_RATE
    assert found.seconds == pytest.approx([host + launches, host + computing])
    assert launches < computing and 6 * 303_361_024 * 12 * pieces / (989e12 * costs.TRAIN_USE) < launches
    states = 335_141_888 * (4 + 4 + 8 + 4)
    kept = 24 * 32 * 128 * (34 * 1024 + 5 * 16 * 128)
    assert found.memory == pytest.approx([costs.CUDA + states + kept, costs.CUDA + states + 2 * kept])
    assert (found.kept, found.meanwhile) == (4 * 335_141_888, (3 * 12 + 3 * 4) * 335_141_888)


def test_a_labellings_time_and_memory_in_closed_form():
    pieces = 392_702 * 11 * 39
    host = costs.START + 392_702 * 39 / costs.TAG_RATE + pieces / costs.FEED_RATE
    found = one("03_transfer_set", "mnli")
    computing = [2 * 303_361_024 * pieces / (peak * costs.LABEL_USE) for peak in (989e12, 15.7e12)]
    assert found.seconds == pytest.approx([host + seconds for seconds in computing])
    states = 16_384 * (2 * 4096 + 4 * 1024)
    assert found.memory == pytest.approx([costs.CUDA + size * (335_141_888 + states) for size in (2, 4)])
    assert found.kept == 4 * pieces + 392_702 * 11 * 3 * 4


def test_a_students_time_and_memory_in_closed_form():
    # 300 units over two 300-wide channels; MNLI in batches of 256, 30 epochs.
    examples = 392_702 * 11
    flops = 2 * 3 * (2 * 4 * 300 * (600 + 300)) * examples * 39 * 30
    launches = 30 * math.ceil(examples / 256) * costs.STUDENT_STEP
    found = one("04_student", "mnli", role="student-distilled")
    longer = max(launches, flops / (67e12 * costs.TRAIN_USE))
    assert found.seconds == pytest.approx([costs.START + longer, costs.START + flops / (15.7e12 * costs.TRAIN_USE)])
    words = costs.WORDS["mnli"] * 300
    rest = 2 * (4 * 300 * (600 + 300) + 2 * 4 * 300) + (8 * 300 + 1) * 400 + 401 * 3
    assert found.memory[H100] == found.memory[V100] == costs.CUDA + 4 * (2 * words + rest) + 12 * (words + rest)
    assert (found.kept, found.meanwhile) == (4 * (2 * words + rest), 2 * 4 * (6 * words + 4 * rest))


@pytest.mark.parametrize("task", ["sst2", "qqp", "mnli"])
def test_a_record_tells_the_vocabulary(task):
    record = json.loads(paths.run_record("offline", task, "student-distilled", 0).read_text())
    total = record["n_params"]["total"]
    tuned = total - 50 * record["vocabulary"]["words"]
    found = one("04_student", task, "offline", "student-distilled")
    assert found.memory == [costs.CUDA + 4 * (total + 3 * tuned)] * 2


def test_one_frozen_channel_has_no_tuned_table():
    found = one("04_student", "sst2", role="student-distilled", arm="static")
    weights = costs.student_weights(plan.TASKS["sst2"], 300, 400, 300)
    assert found.memory[H100] == costs.CUDA + 4 * (costs.WORDS["sst2"] * 300 + 4 * weights)


def test_a_small_batch_of_a_student_is_bound_by_its_launches():
    updates = 30 * math.ceil(67_349 / 50)
    assert (
        one("04_student", "sst2", role="student-baseline").seconds == [costs.START + updates * costs.STUDENT_STEP] * 2
    )


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A copy of ``paper`` whose files a test may change: ``profile(data={"max_train": 1000})``."""
    shutil.copytree(paths.CONFIGS / "paper", tmp_path / "mine")
    monkeypatch.setattr(paths, "CONFIGS", tmp_path)

    def change(**sections):
        for name, changes in sections.items():
            path = tmp_path / "mine" / f"{name}.yaml"
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"tasks": {}} | changes))

    return change


@pytest.mark.parametrize("gpu", [H100, V100])
def test_twice_the_examples_take_twice_the_time_to_label(profile, gpu):
    def labelling(n_iter):
        profile(transfer_set={"n_iter": n_iter})
        tagging = 67_349 * costs.PIECES["sst2"] / costs.TAG_RATE
        return one("03_transfer_set", "sst2", "mine").seconds[gpu] - costs.START - tagging

    assert labelling(9) == pytest.approx(2 * labelling(4))


@pytest.mark.parametrize("arm, reads", [("", 1), ("separate", 2)])
def test_small_batches_of_a_labelling_are_bound_by_their_launches(profile, arm, reads):
    profile(transfer_set={"n_iter": 10, "token_budget": 64})
    pieces = 392_702 * 11 * 39
    host = costs.START + 392_702 * 39 / costs.TAG_RATE + pieces / costs.FEED_RATE
    launches = pieces / 64 * 24 * reads * costs.LABEL_LAYER
    assert one("03_transfer_set", "mnli", "mine", arm=arm).seconds[H100] == pytest.approx(host + launches)


def test_reading_the_sentences_apart_launches_twice(profile):
    joint = one("02_teacher", "mnli", "mine")
    apart = one("02_teacher", "mnli", "mine", arm="separate")
    feed = costs.START + 4 * 392_702 * 39 / costs.FEED_RATE
    assert apart.seconds[H100] - feed == pytest.approx(2 * (joint.seconds[H100] - feed))


DURATIONS = {
    0: "0 s",
    59.4: "59 s",
    59.6: "1 min",
    1200: "20 min",
    3599: "1 h 0 min",
    12_000: "3 h 20 min",
    419_400: "116 h",
}


@pytest.mark.parametrize("seconds, said", DURATIONS.items())
def test_durations(seconds, said):
    assert plan.duration(seconds) == said


VOLUMES = {0: "-", 4e5: "-", 6e5: "1 MB", 999.4e6: "999 MB", 999.6e6: "1.0 GB", 25.46e9: "25.5 GB"}


@pytest.mark.parametrize("count, said", VOLUMES.items())
def test_volumes(count, said):
    assert plan.volume(count) == said


# --- the steps --------------------------------------------------------------------------------------------------------


def made(goal, *variables):
    """What Make would run, in its order: notebook, task, role, arm, seed."""
    hidden = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROFILE", "TASKS", "SEEDS", "TEACHER_SEED")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        ["make", "-n", "-B", goal, *variables],
        cwd=paths.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("distil.steps ")[1] for line in done.stdout.splitlines() if "-m distil.steps " in line]
    return [key(steps._parse(line.split())) for line in lines]


def key(step):
    return step.notebook, step.task, step.role, step.arm, step.seed


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("name", config.profiles())
def test_the_steps_are_those_that_make_would_run(name):
    makes = made("reproduce", f"PROFILE={name}", "SEEDS=0")
    listed = [key(step) for step in plan.graph(name, ["sst2", "qqp", "mnli"], [0], 0, "quick")]
    assert listed == makes
    main = [key(step) for step in plan.graph(name, ["sst2", "qqp", "mnli"], [0], 0, "") if step.notebook < "05"]
    assert main == [step for step in makes if step[0] < "05" and not step[3]] and len(main) == 15


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("tasks", ["sst2 qqp mnli", "mnli", "qqp"])
def test_the_steps_of_the_ablation_are_those_that_make_would_run(tasks):
    makes = made("ablation", "PROFILE=paper", "SEEDS=0 1", f"TASKS={tasks}", "TEACHER_SEED=3")
    assert [key(step) for step in plan.graph("paper", tasks.split(), [0, 1], 3, "all")] == makes


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, rows", [("paper", (67_349, 363_846, 392_702)), ("smoke", (240, 240, 240))])
def test_the_rows_are_those_of_the_data(name, rows, capsys):
    found = figures(table("--profile", name, "--arms", capsys=capsys))
    assert len(found) == len(plan.graph(name, ["sst2", "qqp", "mnli"], [0], 0, "all"))
    for task, count in zip(("sst2", "qqp", "mnli"), rows, strict=True):
        drawn = count * (1 + config.load(name, "transfer_set", task).n_iter)
        own = {step: int(cells[0].replace(",", "")) for step, cells in found.items() if step.startswith(task)}
        for step, examples in own.items():
            real = any(part in step for part in ("01_", "02_", "baseline", "real-only"))
            assert examples == (count if real else drawn), step


def test_the_rows_of_offline_are_those_of_its_records(capsys):
    found = figures(table("--profile", "offline", capsys=capsys))
    for task in ("sst2", "qqp", "mnli"):
        rows = json.loads(paths.data_record("offline", task).read_text())["rows"]["train"]
        assert found[f"{task} 01_data"][0] == f"{rows:,}"


def test_host_memory_holds_examples_and_the_words_of_the_rows(capsys):
    cells = figures(table("--profile", "paper", "--tasks", "mnli", capsys=capsys))["mnli 04_student-distilled-seed0"][1]
    used = 2e9 + 392_702 * 11 * (100 + 39 * 8 + 8 * 3) + 392_702 * 39 * 70
    assert cells.split()[-4:-2] == plan.volume(used).split()  # the last but one column; nothing was measured


def test_max_train_cuts_and_totals_add_up(profile, capsys):
    profile(data={"max_train": 1000}, transfer_set={"n_iter": 4})
    text = table("--profile", "mine", "--tasks", "qqp", "mnli", "--seeds", "0", "1", capsys=capsys)
    found = figures(text)
    assert {cells[0] for name, cells in found.items() if re.search("01_|02_|baseline", name)} == {"1,000"}
    assert found["qqp 03_transfer-set-seed0"][0] == found["mnli 04_student-distilled-seed1"][0] == "5,000"
    listed = plan.graph("mine", ["qqp", "mnli"], [0, 1], 0, "")
    spent = [costs.cost(step, costs.sizes(step)) for step in listed]
    totals = [(sum(cost.seconds[i] for cost in spent), max(cost.memory[i] for cost in spent)) for i in (H100, V100)]
    cells = [cell for seconds, memory in totals for cell in (plan.duration(seconds), plan.volume(memory))]
    assert re.search(rf"^all steps +{' +'.join(cells)}$", text, flags=re.M)
    before = spent[:4]  # the second teacher needs most: its checkpoints beside what the steps before it left
    most = sum(cost.kept for cost in before) + spent[4].kept + spent[4].meanwhile
    assert (
        f"Disk: {plan.volume(most)} at most at once, {plan.volume(sum(cost.kept for cost in spent))} at the end" in text
    )
    assert "05_speed" not in text


def test_every_step_says_what_it_reads(profile, capsys):
    profile(teacher={"model": "someone/roberta@0123456789"}, student={"vectors": "no/such/file.bin"})
    text = table("--profile", "mine", "--tasks", "mnli", "--arms", "--teacher-seed", "2", capsys=capsys)
    below = dict(re.findall(r"^mnli (\S+).*\n +from (.*(?:\n {5}[a-z(].*)?)", text, flags=re.M))
    assert below["01_data"] == "source hub"
    assert below["02_teacher-seed2"].startswith(
        "data/mnli, model someone/roberta@01234567 (unknown model, counted as BERT_LARGE"
    )
    assert below["03_transfer-set-seed2"] == "data/mnli, mnli/teacher-seed2, tagger nltk"
    assert below["04_student-baseline-seed0"] == "data/mnli, vectors no/such/file.bin (NO SUCH FILE HERE)"
    assert "mnli/separate-transfer-set-seed2" in below["04_separate-seed1"]


def test_unknown_rows_are_said_and_counted_as_max_train(profile, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "none")
    profile(data={"source": "packages", "max_train": 70})
    text = table("--profile", "mine", "--tasks", "sst2", capsys=capsys)
    assert "ROWS UNKNOWN" in text and figures(text)["sst2 01_data"][0] == "70"


def test_a_measurement_names_its_device_and_whether_the_config_was_another(profile, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for seed, lr, seconds in ((2, 1.0, None), (0, 1.0, 4000), (1, 0.5, 4000)):
        path = paths.run_record("mine", "sst2", "student-baseline", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"seconds": seconds, "device": "Abacus", "config": {"lr": lr}}))
    text = table("--profile", "mine", "--tasks", "sst2", "--seeds", "0", "1", "2", capsys=capsys)
    assert re.search(r"baseline-seed0 .* 1 h 7 min\n.*measured on Abacus\n", text)
    assert re.search(r"baseline-seed1 .* 1 h 7 min\n.*measured on Abacus, with another config\n", text)
    assert text.count("measured on") == 2
    path.write_text("{")
    assert plan.main(["--profile", "mine", "--tasks", "sst2", "--seeds", "1"]) == 2
    assert "is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("name", config.profiles())
def test_the_table_fits_a_terminal(name, capsys):
    assert plan.main(["--profile", name, "--arms", "quick", "--seeds", "0", "12"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    lines = [line for line in out.splitlines() if re.match(r"\w* +0\d_", line)]
    heading = next(line for line in out.splitlines() if line.startswith("profile"))
    for line in lines:
        assert line[: heading.index("disk") + 4][-1] in "B-", line  # every cell ends below its heading's end
    for constant in ("0.35", "0.45", "989", "15.7", "2.5 ms", "150,000"):
        assert constant in out


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["--profile", "ofline"], "unknown profile 'ofline'"),
        (["--profile", "paper", "--tasks", "cola"], "one of sst2, qqp, mnli; got 'cola'"),
    ],
)
def test_a_wrong_name_is_one_line_and_status_2(arguments, wanted, capsys):
    assert plan.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and wanted in err and err.count("\n") == 1 and err.startswith("error: ")


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from distil import plan; plan.main(['--profile', 'offline']); "
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
