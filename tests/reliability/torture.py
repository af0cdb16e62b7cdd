"""``make torture``: what can go wrong with a run, done to it on purpose; then every bit compared with a run left alone.

Kills at random moments (everything, one step or one kernel), two runs in one folder, and the suite of this folder. With
``--committed`` the run left alone is the one on record, which costs hours on real data only once. Writes
``results/reliability.json``, from which docs/reliability.md is made: what, how many tried, how many survived, what was lost.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from distil.records import provenance  # noqa: E402

# Tests elsewhere that hold what this page promises: downloads and archives, resuming, determinism, settings that are code.
GUARDS = (
    "packages",
    "word2vec",
    "transfer",
    "train",
    "teacher",
    "ranks",
    "steps",
    "makefile",
    "records",
    "augment",
    "words",
)
KEPT_APART = ("results", "artifacts", ".venv", ".git")


def copy_of_the_project(home: Path) -> Path:
    """Code, configs and notebooks alone, so that everything has to be made."""
    shutil.copytree(ROOT, home, ignore=shutil.ignore_patterns(*KEPT_APART, "__pycache__", "*.egg-info"))
    (home / "results").mkdir()
    shutil.copy(ROOT / "results" / "paper.json", home / "results")
    return home


def start(home: Path, options: argparse.Namespace) -> subprocess.Popen:
    """``make reproduce``, or other goals, in the copy, with this environment's Python, in a session of its own."""
    (home / "installed").touch()  # younger than the pins: nothing is installed into the environment that is used here
    settings = [
        f"PROFILE={options.profile}",
        f"TASKS={options.tasks}",
        "SEEDS=0",
        *([f"JOBS={options.jobs}"] if options.jobs else []),
        f"BIN={ROOT}/.venv/bin",
        "ENV=installed",
    ]
    hidden = {"DISTIL_ARTIFACTS", "DISTIL_RESULTS", "GLUE_DIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"PYTHONPATH": str(home)}
    environment |= {"DISTIL_PACKAGES": str(ROOT / "artifacts" / "packages"), "TQDM_DISABLE": "1"}
    log = (home / "log.txt").open("a", encoding="utf-8")
    print("start", file=log, flush=True)
    return subprocess.Popen(
        ["make", *options.goals.split(), *settings],
        cwd=home,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def processes_of(home: Path) -> list[int]:
    """Make, its shells, the steps and their kernels: whatever works in the copy."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(home):
                found.append(int(entry.name))
    return found


WAYS = {"everything": "", "one step": "distil.steps", "one kernel": "ipykernel_launcher"}


def strike(home: Path, process: subprocess.Popen, way: str, rng: random.Random) -> None:
    """SIGKILL to everything, or to one process of a kind, which Make must then survive; what is left has a minute to end."""
    commands = {pid: command_of(pid) for pid in processes_of(home)}
    of_kind = [  # not the shell in which Make starts a step: a step outlives it, and ends as it should
        pid for pid, command in commands.items() if WAYS[way] and WAYS[way] in command and "sh -c" not in command
    ]
    if of_kind:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(of_kind), signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        deadline = time.monotonic() + 10
        while processes_of(home) and time.monotonic() < deadline:
            time.sleep(0.2)
        if process.poll() is not None and processes_of(home):
            raise SystemExit(f"10 seconds after {way} was killed something still runs in {home}")
    kill_all(home, process)


def command_of(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def kill_all(home: Path, process: subprocess.Popen) -> None:
    """SIGKILL to all of them, Make first, so that it cannot go on with another step."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while found := processes_of(home):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def running(home: Path) -> list[str]:
    """The steps that have begun since the last start and not ended, by the log: several, where they run side by side."""
    log = (home / "log.txt").read_text(encoding="utf-8", errors="replace").rpartition("start\n")[2]
    begun = re.findall(
        r"^(?:(.+) \| )?== (\w+)", log, re.MULTILINE
    )  # "sst2 02_teacher-seed0 | == 02_teacher  smoke/sst2"
    ended = set(re.findall(r"^(?:(.+) \| )? +\d+ s, ", log, re.MULTILINE))
    return [notebook for name, notebook in begun if name not in ended] or ["between steps"]


def disturb(home: Path, options: argparse.Namespace, rng: random.Random) -> tuple[Counter, Counter]:
    """Start and kill until there were enough kills; returns how many were of each way, and struck steps of each notebook."""
    kills, struck, ways = 0, Counter(), Counter()
    while kills < options.kills:
        process = start(home, options)
        try:
            process.wait(timeout=rng.uniform(1, options.longest))
        except subprocess.TimeoutExpired:
            struck.update(running(home))
            way = rng.choice(list(WAYS))
            strike(home, process, way, rng)
            kills += 1
            ways[way] += 1
            if rng.random() < options.forget:
                forget_one(home, rng)
            print(f"{kills} of {options.kills}: {way}", flush=True)
            continue
        if process.returncode:
            raise SystemExit(f"the run failed after {kills} kills, see {home}/log.txt")
        forget_one(home, rng)
    return ways, struck


def forget_one(home: Path, rng: random.Random) -> None:
    """Take a run's record and artifacts away: without it most kills would strike the last step, which starts anew after each."""
    if made := sorted((home / "results" / "runs").rglob("*.json")):
        record = rng.choice(made)
        folder = home / "artifacts" / record.parent.relative_to(home / "results" / "runs") / record.stem
        shutil.rmtree(folder, ignore_errors=True)
        record.unlink()


def two_at_once(home: Path, options: argparse.Namespace) -> dict[str, object]:
    """Two runs in one folder: each step runs once, the run that is too late for one says so, and a third finds all done."""
    runs = [start(home, options) for _ in range(2)]
    codes = [run.wait() for run in runs]
    said = (home / "log.txt").read_text(encoding="utf-8", errors="replace").count("is being run by process")
    last = start(home, options).wait()
    return {"exit_codes": codes, "told_that_another_runs_the_step": said, "third_run": last}


def suite() -> dict[str, dict[str, int]]:
    """Tests of this folder and of what else guards reliability, by file: how many ran, how many failed."""
    results = ROOT / "artifacts" / "torture.xml"
    results.parent.mkdir(exist_ok=True)
    tests = [ROOT / "tests" / "reliability", *(ROOT / "tests" / f"test_{name}.py" for name in GUARDS)]
    command = [sys.executable, "-m", "pytest", "-q", "-o", "junit_family=xunit1", f"--junit-xml={results}", *tests]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=False)
    counts: dict[str, Counter] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        count = counts.setdefault(
            Path(case.get("file")).stem.removeprefix("test_"), Counter(tried=0, failed=0, skipped=0)
        )
        kinds = {child.tag for child in case}
        count["tried"] += 1
        count["failed"] += bool(kinds & {"failure", "error"})
        count["skipped"] += "skipped" in kinds
    return {name: dict(count) for name, count in sorted(counts.items())}


def references(home: Path, options: argparse.Namespace) -> list[Path]:
    """Records of a run that was left alone, which the disturbed one has to equal; of the committed ones the main runs'."""
    parts = ("runs",) if options.committed else ("runs", "ablation")
    folders = [home / "results" / part / options.profile / task for part in parts for task in options.tasks.split()]
    return sorted(path for folder in folders for path in folder.glob("*-seed0.json"))


def differences(made: Path, reference: Path, options: argparse.Namespace) -> list[str]:
    """Records of the disturbed run that are missing or whose metrics, digests or logits differ."""
    from verify import compare

    from distil import records

    wrong = []
    for path in references(reference, options):
        other = made / path.relative_to(reference)
        if not other.exists():
            wrong.append(f"{path.name}: missing")
            continue
        same, line = compare(other, path)
        new, old = records.read(other), records.read(path)
        digests = [record["inputs"] | record["outputs"] for record in (new, old)]
        other_files = sorted(name for name in digests[0] | digests[1] if digests[0].get(name) != digests[1].get(name))
        if not same or other_files:
            wrong.append(f"{path.parent.name}/{path.name}: {line}; other files: {', '.join(other_files) or 'none'}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python tests/reliability/torture.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--tasks", default="sst2 mnli")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--longest", type=float, default=25.0, help="seconds until a kill, at most")
    parser.add_argument("--forget", type=float, default=0.3, help="chance that a finished step is undone after a kill")
    parser.add_argument("--goals", default="reproduce", help="what Make is asked for")
    parser.add_argument("--jobs", help="JOBS of Make; teachers depend on the threads that it leaves each step")
    parser.add_argument("--committed", action="store_true", help="compare with results/ instead of a run left alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-suite", dest="suite", action="store_false", help="kills alone")
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    began = time.monotonic()
    calm = ROOT if options.committed else copy_of_the_project(work / "calm")
    if not options.committed and start(calm, options).wait():
        raise SystemExit(f"the undisturbed run failed, see {calm}/log.txt")
    alone, rough = time.monotonic() - began, copy_of_the_project(work / "rough")
    ways, struck = disturb(rough, options, random.Random(options.seed))
    finished = start(rough, options).wait() == 0
    wrong = differences(rough, calm, options) if finished else ["the last run failed"]
    report = {
        "profile": options.profile,
        "tasks": options.tasks,
        "kills": options.kills,
        "ways": dict(sorted(ways.items())),
        "struck": dict(sorted(struck.items())),
        "records": len(references(calm, options)),
        "seconds_undisturbed": None if options.committed else round(alone),
        "seconds_in_all": round(time.monotonic() - began),
        "differences": wrong,
    }
    if not options.committed:
        both = copy_of_the_project(work / "both")
        report["two_at_once"] = two_at_once(both, options)
        wrong += [f"two at once: {line}" for line in differences(both, calm, options)]
    print(json.dumps(report, indent=1))
    path = ROOT / "results" / "reliability.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    made = provenance()
    found = earlier | {f"kills-{options.profile}": report | {"commit": made["git"]["commit"]}}
    if options.suite:
        found["tests"] = suite()
        wrong += [name for name, count in found["tests"].items() if count["failed"]]
    path.write_text(json.dumps(found | made, indent=1) + "\n", encoding="utf-8")
    if wrong or options.committed:  # a real run is worth keeping
        print(f"what was made is in {work}")
    else:
        shutil.rmtree(work)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
