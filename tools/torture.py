"""Kills smoke runs at random moments, and compares what becomes of them with a run left alone.

    python tools/torture.py --kills 20

Then it flips a bit in a teacher's weights, a shard and a student: each must be noticed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ["-m", "distil.run", "reproduce", "--profile", "smoke", "--tasks", "sst2"]


def start(home: Path) -> subprocess.Popen:
    """Start a smoke run in a folder of its own, as a group of processes that dies together."""
    own = {"DISTIL_ARTIFACTS": str(home / "artifacts"), "DISTIL_RESULTS": str(home / "results")}
    return subprocess.Popen(
        [sys.executable, *RUN],
        cwd=ROOT,
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(process: subprocess.Popen) -> None:
    """Kill -9 the run with its steps and their kernels, which are groups of their own."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    parents = dict(map(int, line.split()) for line in listed.stdout.splitlines()[1:])
    doomed = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def evidence(home: Path) -> dict[str, object]:
    """Return what the records of a run say of its students, teachers and sets: scores and files."""
    found = {}
    for path in sorted((home / "results" / "runs").rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(home / "results" / "runs"))
        found[name] = (record["metrics"], record["outputs"])
        found[name + " logits"] = path.with_suffix(".npz").read_bytes()
    return found


def flip(home: Path) -> list[str]:
    """Flip a bit in one file of each kind; return the steps that did not notice."""
    os.environ |= {"DISTIL_ARTIFACTS": str(home / "artifacts")}
    os.environ |= {"DISTIL_RESULTS": str(home / "results")}
    sys.path.insert(0, str(ROOT))
    from distil.records import RecordError, Step

    missed = []
    for stage in ("teacher", "transfer-set", "student"):
        step = Step(stage, "smoke", "sst2", "distilled")
        path = max(step.files().iterdir(), key=lambda one: one.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        try:
            step.files()
            missed.append(stage)
        except RecordError as error:
            print(f"noticed: {error}", flush=True)
    return missed


def main() -> int:
    """Run the torture; return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        began = time.monotonic()
        if start(alone).wait():
            print("the run left alone failed", file=sys.stderr)
            return 1
        longest = max(15, (time.monotonic() - began) / 5)  # a busy machine needs more for a step
        for number in range(options.kills):
            process, seconds = start(killed), rng.uniform(1, longest)
            time.sleep(seconds)
            ended = process.poll() is not None
            kill(process)
            done = len(list((killed / "results").rglob("*-seed*.json")))
            print(f"kill {number + 1} after {seconds:.1f} s, {done} records", flush=True)
            if ended:  # undo one step, so that the next run has something to lose
                record = rng.choice(sorted((killed / "results" / "runs").rglob("*.json")))
                record.unlink()
                home = killed / "artifacts" / record.parent.relative_to(killed / "results" / "runs")
                for folder in home.glob(f"{record.stem}-*"):
                    shutil.rmtree(folder)
        if start(killed).wait():
            print("the run after the last kill failed", file=sys.stderr)
            return 1
        before, after = evidence(alone), evidence(killed)
        wrong = [name for name in before if before[name] != after.get(name)]
        print(f"{len(before) - len(wrong)} of {len(before)} records and logits are the same")
        missed = flip(killed)
    for name in [*wrong, *missed]:
        print(f"error: {name}", file=sys.stderr)
    return int(bool(wrong or missed))


if __name__ == "__main__":
    sys.exit(main())
