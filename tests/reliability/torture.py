"""``make torture``: kill a run at random moments, let it finish, and compare every bit with a run that nobody disturbed.

Writes ``results/reliability.json``: how many kills, in which steps they fell, what was lost, whether the records agree.
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

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
KEPT_APART = ("results", "artifacts", ".venv", ".git")


def copy_of_the_project(home: Path) -> Path:
    """Code, configs and notebooks alone, so that everything has to be made."""
    shutil.copytree(ROOT, home, ignore=shutil.ignore_patterns(*KEPT_APART, "__pycache__", "*.egg-info"))
    (home / "results").mkdir()
    shutil.copy(ROOT / "results" / "paper.json", home / "results")
    return home


def start(home: Path, options: argparse.Namespace) -> subprocess.Popen:
    """``make reproduce`` in the copy, with this environment's Python, in a session of its own."""
    settings = [
        f"PROFILE={options.profile}",
        f"TASKS={options.tasks}",
        "SEEDS=0",
        f"BIN={ROOT}/.venv/bin",
        "ENV=/dev/null",
    ]
    hidden = {"DISTIL_ARTIFACTS", "DISTIL_RESULTS", "GLUE_DIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"PYTHONPATH": str(home)}
    environment |= {"DISTIL_PACKAGES": str(ROOT / "artifacts" / "packages"), "TQDM_DISABLE": "1"}
    log = (home / "log.txt").open("a", encoding="utf-8")
    print("start", file=log, flush=True)
    return subprocess.Popen(
        ["make", "reproduce", *settings], cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
    )


def processes_of(home: Path) -> list[int]:
    """Make, its shells, the steps and their kernels: whatever works in the copy."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(home):
                found.append(int(entry.name))
    return found


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


def disturb(home: Path, options: argparse.Namespace, rng: random.Random) -> Counter:
    """Start and kill until there were enough kills; returns how many steps of each notebook they struck."""
    kills, struck = 0, Counter()
    while kills < options.kills:
        process = start(home, options)
        try:
            process.wait(timeout=rng.uniform(1, options.longest))
        except subprocess.TimeoutExpired:
            kill_all(home, process)
            kills += 1
            struck.update(running(home))
            continue
        if process.returncode:
            raise SystemExit(f"the run failed after {kills} kills, see {home}/log.txt")
        forget_one(home, rng)
    return struck


def forget_one(home: Path, rng: random.Random) -> None:
    """It finished before it was killed often enough: take a record away, so that there is work again."""
    records = sorted((home / "results" / "runs").rglob("*.json"))
    rng.choice(records).unlink()


def differences(made: Path, reference: Path) -> list[str]:
    """Records of the disturbed run that are missing or whose metrics, digests or logits differ."""
    from verify import compare

    from distil import records

    wrong = []
    for path in sorted(p for part in ("runs", "ablation") for p in (reference / "results" / part).rglob("*.json")):
        other = made / path.relative_to(reference)
        if not other.exists():
            wrong.append(f"{path.name}: missing")
            continue
        same, line = compare(other, path)
        new, old = records.read(other), records.read(path)
        if not same or (new["inputs"], new["outputs"]) != (old["inputs"], old["outputs"]):
            wrong.append(f"{path.parent.name}/{path.name}: {line}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python tests/reliability/torture.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--tasks", default="sst2 mnli")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--longest", type=float, default=25.0, help="seconds until a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    calm, rough = copy_of_the_project(work / "calm"), copy_of_the_project(work / "rough")
    began = time.monotonic()
    if start(calm, options).wait():
        raise SystemExit(f"the undisturbed run failed, see {calm}/log.txt")
    alone = time.monotonic() - began
    struck = disturb(rough, options, random.Random(options.seed))
    finished = start(rough, options).wait() == 0
    wrong = differences(rough, calm) if finished else ["the last run failed"]
    report = {
        "profile": options.profile,
        "tasks": options.tasks,
        "kills": options.kills,
        "struck": dict(sorted(struck.items())),
    }
    report |= {
        "seconds_undisturbed": round(alone),
        "seconds_in_all": round(time.monotonic() - began),
        "differences": wrong,
    }
    print(json.dumps(report, indent=1))
    path = ROOT / "results" / "reliability.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(earlier | {f"kills-{options.profile}": report}, indent=1) + "\n", encoding="utf-8")
    if not wrong:
        shutil.rmtree(work)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
