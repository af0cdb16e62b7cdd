"""The graph: what runs in a fresh clone, what runs again, what is trusted. A stand-in Python writes each record at once."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from distil import paths

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Stands in for the environment's Python: writes the target of a step and logs the step.
PYTHON = """#!/bin/sh
echo "$@ ${DISTIL_LINES:+--in-lines} --threads ${OMP_NUM_THREADS:-all}" >> log
shift; module=$1; shift
[ "$module" = distil.steps ] || { sleep 0.01; exit 0; }
notebook=$1; shift
while [ $# -gt 0 ]; do
  case $1 in
    --profile) profile=$2;; --task) task=$2;; --role) role=$2;; --arm) arm=$2;; --seed) seed=$2;;
  esac
  shift 2
done
case $notebook in
  01_data) f=results/data/$profile/$task.json;;
  02_teacher) f=results/runs/$profile/$task/teacher-seed$seed.json
    [ -z "$arm" ] || f=results/ablation/$profile/$task/$arm-teacher-seed$seed.json;;
  03_transfer_set) f=results/runs/$profile/$task/transfer-set-seed$seed.json
    [ -z "$arm" ] || f=results/ablation/$profile/$task/$arm-transfer-set-seed$seed.json;;
  04_student) f=results/runs/$profile/$task/$role-seed$seed.json
    [ -z "$arm" ] || f=results/ablation/$profile/$task/$arm-seed$seed.json;;
  05_speed) f=results/speed/$profile.json; find results -name '*.json' > before-speed;;
  *) f=results/executed/$profile/$notebook.ipynb;;
esac
[ "$notebook" != "$BREAK" ] || exit 1
[ "$notebook" != "$SLOW" ] || sleep 0.2
mkdir -p $(dirname $f); echo x > $f
"""


@pytest.fixture
def clone(tmp_path):
    """A clone of the graph's own files, with an environment that counts as installed."""
    home = tmp_path / "a clone"
    for folder in ("configs", "notebooks", "distil"):
        shutil.copytree(paths.ROOT / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(paths.ROOT / name, home / name)
    for name in ("notebooks/06_results.ipynb", "notebooks/07_ablation.ipynb", "results/paper.json"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).touch()
    python = home / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (home / ".venv" / ".distil-installed").touch()
    return home


def make(home: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    """What a call of Make prints: one step at a time, unless ``arguments`` say how many."""
    mine = {"PATH", "HOME", "LANG", "TMPDIR"}  # no setting of the shell, or of the Make that runs these tests
    inherited = {key: value for key, value in os.environ.items() if key in mine}
    done = subprocess.run(
        ["make", "JOBS=1", *arguments],
        cwd=home,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(home: Path) -> list[str]:
    """The steps of the last run, as ``04_student sst2 student-baseline 0``."""
    log = home / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    names = []
    for line in lines:
        words = dict(re.findall(r"--(task|role|arm|seed) (\S+)", line))
        names.append(
            " ".join([line.split()[2].removeprefix("distil."), *words.values()]) if "steps" in line else "readme"
        )
    return names


def touch_later(path: Path) -> None:
    later = time.time() + 5
    os.utime(path, (later, later))


ONE_TASK = [
    "01_data sst2",
    "02_teacher sst2 0",
    "03_transfer_set sst2 0",
    "04_student sst2 student-distilled 0",
    "04_student sst2 student-baseline 0",
    "04_student sst2 real-only 0",
    "05_speed 0",
    "06_results",
    "07_ablation",
    "readme",
]


def test_one_task_runs_in_order_and_only_once(clone):
    make(clone, "reproduce", "TASKS=sst2")
    assert ran(clone) == ONE_TASK
    make(clone, "reproduce", "TASKS=sst2")
    assert ran(clone) == []


def test_steps_side_by_side_share_the_threads_and_speed_is_timed_alone(clone):
    make(clone, "reproduce", "JOBS=2", "CORES=4", SLOW="04_student")
    records = {str(path.relative_to(clone)) for path in (clone / "results").rglob("*.json")}
    assert records - set((clone / "before-speed").read_text().split()) == {"results/speed/offline.json"}
    lines = [line for line in (clone / "log").read_text().splitlines() if "distil.steps" in line]
    speed = next(i for i, line in enumerate(lines) if "05_speed" in line)
    assert "--in-lines" not in lines[speed] and "--threads all" in lines[speed]
    assert all("--in-lines --threads 2" in line for line in lines[:speed] + lines[speed + 1 :])
    assert all(re.search("0[1-4]_", line) for line in lines[:speed]) and len(lines) == speed + 3
    assert len(set(lines)) == len(lines)
    order = ran(clone)
    teachers, fillers = ([i for i, name in enumerate(order) if part in name] for part in ("02_", "baseline"))
    assert len(teachers) == len(fillers) == 3 and max(teachers) < min(fillers)
    make(clone, "reproduce", "JOBS=2")
    assert ran(clone) == []


def test_several_goals_are_made_one_after_the_other(clone):
    make(clone, "clean", "reproduce", "TASKS=sst2", "JOBS=8")
    assert ran(clone) == ONE_TASK


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_jobs_fit_the_machine(clone, cores):
    jobs = "1" if cores == 1 or Path("/dev/nvidia0").exists() else "2"
    text = subprocess.run(
        ["env", "-u", "JOBS", "-u", "MAKEFLAGS", "make", f"CORES={cores}"],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert f"JOBS={jobs} " in text


def test_the_ablation_makes_anew_what_follows_each_change(clone):
    make(clone, "reproduce")
    ran(clone)
    make(clone, "ablation")
    done = ran(clone)
    assert done[:2] == ["03_transfer_set sst2 no-mask 0", "04_student sst2 no-mask 0"]
    separate = ["02_teacher mnli separate 0", "03_transfer_set mnli separate 0", "04_student mnli separate 0"]
    assert [name for name in done if "separate" in name] == separate
    assert [name for name in done if name.startswith("02_teacher sst2")] == ["02_teacher sst2 mpnet 0"]
    assert not any("real-only" in name for name in done)
    make(clone, "ablation")
    assert ran(clone) == []
    make(clone, "reproduce")
    assert ran(clone) == []


def test_more_seeds_of_the_ablation_ask_for_the_full_method_too(clone):
    path = clone / "configs" / "offline" / "ablation.yaml"
    path.write_text(path.read_text().replace("seeds: [0]", "seeds: [0, 1]"))
    make(clone, "ablation", "TASKS=sst2")
    done = ran(clone)
    assert "04_student sst2 kl 1" in done and "04_student sst2 student-distilled 1" in done
    assert not any("separate" in name for name in done)


def test_only_what_depends_on_a_change_runs(clone):
    make(clone, "reproduce", "TASKS=sst2")
    ran(clone)
    make(clone, "reproduce", "TASKS=sst2", "SEEDS=0 1")
    assert ran(clone)[:2] == ["04_student sst2 student-distilled 1", "04_student sst2 student-baseline 1"]
    touch_later(clone / "notebooks" / "06_results.ipynb")
    make(clone, "reproduce", "TASKS=sst2", "SEEDS=0 1")
    assert ran(clone) == ["06_results"]


def test_a_task_of_ones_own_runs_and_its_description_concerns_no_other(clone):
    tasks = clone / "configs" / "tasks.yaml"
    tasks.write_text("# mine\nspam-2: {text: [message], label: kind, labels: [ham, spam]}\n")
    make(clone, "reproduce", "PROFILE=own", "TASKS=spam-2 sst2")
    assert "04_student spam-2 student-distilled 0" in ran(clone)
    touch_later(tasks)
    make(clone, "reproduce", "PROFILE=own", "TASKS=spam-2 sst2")
    assert {name.split()[1] for name in ran(clone) if name[:2] in ("01", "02", "03", "04")} == {"spam-2"}


def test_a_file_of_glue_dir_that_changes_is_noticed_where_it_is_read(clone, tmp_path):
    for folder in ("SST-2", "QQP"):
        (tmp_path / "glue" / folder).mkdir(parents=True)
        (tmp_path / "glue" / folder / "train.tsv").touch()
    other = shutil.copytree(tmp_path / "glue", tmp_path / "another's glue")
    (other / "QQP" / "train.tsv").write_text("is there\t1\n")
    os.utime(other / "QQP" / "train.tsv", (0, 0))  # older than every record, as GLUE's own files are
    settings = ["reproduce", "TASKS=sst2 qqp", f"GLUE_DIR={tmp_path / 'glue'}"]
    for profile in ("glue", "offline"):
        make(clone, *settings, f"PROFILE={profile}")
    ran(clone)
    touch_later(tmp_path / "glue" / "QQP" / "train.tsv")
    make(clone, *settings, "PROFILE=glue")
    assert ran(clone) == [], "its time changed, not what is in it"
    time.sleep(1.1)  # the records above must be older than what is noticed now
    settings[-1] = f"GLUE_DIR={other}"
    make(clone, *settings, "PROFILE=offline")
    assert ran(clone) == []
    make(clone, *settings, "PROFILE=glue")
    again = ran(clone)
    assert "01_data qqp" in again and "04_student qqp student-distilled 0" in again and "01_data sst2" not in again
    make(clone, *settings, "PROFILE=glue")
    assert ran(clone) == []


def test_a_clone_may_trust_its_records_of_a_users_folder(clone, tmp_path):
    (tmp_path / "glue" / "SST-2").mkdir(parents=True)
    (tmp_path / "glue" / "SST-2" / "train.tsv").touch()
    settings = ["reproduce", "TASKS=sst2", "PROFILE=glue", f"GLUE_DIR={tmp_path / 'glue'}"]
    make(clone, *settings)
    ran(clone)
    shutil.rmtree(clone / "artifacts")
    make(clone, "trust")
    make(clone, *settings)
    assert ran(clone) == ["06_results", "readme"]


def test_another_teacher_seed_has_the_students_made_again(clone):
    for seed in ("0", "1", "0"):
        make(clone, "reproduce", "TASKS=qqp", f"TEACHER_SEED={seed}")
        assert "04_student qqp student-distilled 0" in ran(clone), seed
        time.sleep(1.1)
    make(clone, "reproduce", "TASKS=qqp")
    assert ran(clone) == []


def test_a_student_without_a_teacher(clone):
    make(clone, "results/runs/offline/qqp/student-baseline-seed0.json")
    assert ran(clone) == ["01_data qqp", "04_student qqp student-baseline 0"]


def test_no_ablation_and_no_speed_without_their_task(clone):
    make(clone, "reproduce", "TASKS=mnli")
    assert not any(re.search("05_speed|07_ablation|real-only", name) for name in ran(clone))


def test_records_of_a_clone_are_made_again_or_trusted(clone):
    make(clone, "reproduce", "TASKS=sst2")
    ran(clone)
    shutil.rmtree(clone / "artifacts")
    assert "01_data" in make(clone, "-n", "reproduce", "TASKS=sst2")
    make(clone, "trust")
    make(clone, "reproduce", "TASKS=sst2")
    assert ran(clone) == ["06_results", "07_ablation", "readme"]
    shutil.rmtree(clone / "artifacts")
    make(clone, "reproduce", "TASKS=sst2")
    assert ran(clone) == ONE_TASK


def test_a_failing_step_stops_the_build_and_deletes_no_record(clone):
    make(clone, "reproduce", "TASKS=sst2")
    ran(clone)
    touch_later(clone / "configs" / "offline" / "teacher.yaml")
    make(clone, "reproduce", "TASKS=sst2", status=2, BREAK="02_teacher")
    assert ran(clone) == ["02_teacher sst2 0"]
    assert (clone / "results/runs/offline/sst2/teacher-seed0.json").exists()


def test_smoke_runs_every_task_of_its_own_profile(clone):
    make(clone, "smoke")
    steps = ran(clone)
    assert {name.split()[1] for name in steps if name.startswith("01")} == {"sst2", "qqp", "mnli"}
    assert "readme" not in steps
    assert not (clone / "results/runs/offline").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("PROFILE=nope", "unknown PROFILE 'nope': known are glue offline own paper smoke"),
        ("TASKS=sst2 cola", "unknown TASKS 'sst2 cola': known are sst2 qqp mnli"),
        ("TASKS=", "known are sst2 qqp mnli"),
        ("SEEDS=", "SEEDS is ''"),
        ("JOBS=0", "JOBS is '0': give the number"),
        ("JOBS=$(touch x)", "JOBS is"),
        ("SEEDS=0 one", "SEEDS is '0 one': give whole numbers"),
        ("SEEDS=0\ntouch hurt", "SEEDS is '0\ntouch hurt'"),
        ("JOBS=2\n3", "JOBS is"),
        ("TEACHER_SEED=0;touch hurt", "TEACHER_SEED is '0;touch hurt': give one whole number"),
        ("TEACHER_SEED=", "TEACHER_SEED is ''"),
        ("SEEDS=0 01", "SEEDS is '0 01': give whole numbers without leading zeros"),
        ("TEACHER_SEED=00", "TEACHER_SEED is '00'"),
    ],
)
def test_unknown_settings_say_what_is_known(clone, setting, message):
    assert message in make(clone, "reproduce", setting, status=2)
    assert not (clone / "hurt").exists() and not (clone / "x").exists()


def test_clean_takes_what_it_made_and_nothing_of_the_users(clone, tmp_path):
    """A folder with a space in its name, of which a part is its own neighbour's, and files that somebody put there."""
    home, neighbour = tmp_path / "my runs", tmp_path / "my"
    made = [home / "offline" / "sst2", home / "offline" / "executed", clone / "artifacts" / "models"]
    users = [neighbour, home / "thesis", home / "glue" / "SST-2", home / "models" / "mine", home / "site"]
    for folder in (*made, *users):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    make(clone, "clean", DISTIL_ARTIFACTS=str(home))
    assert not any(folder.exists() for folder in made) and all((folder / "file").exists() for folder in users)


def test_help_is_the_default(clone):
    text = make(clone)
    assert all(
        f"make {name} " in text for name in ("env", "reproduce", "smoke", "test", "lint", "lab", "trust", "clean")
    )
    assert not ran(clone)


def test_no_suitable_python_is_said_plainly(clone):
    shutil.rmtree(clone / ".venv")
    text = make(clone, "env", "PYTHON=/nowhere/python", status=2)
    assert "error: no Python 3.11 or 3.12 found" in text
