"""Makes one committed run again, beside everything that is there, and says how near it comes.

The run is the plain student on vader-movie: real data, and a minute of training. The answer goes to
``results/verify.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path("runs/offline/sst2/plain/student-seed0.json")


def main() -> int:
    """Make the run again and write the answer; return 1 if a score is more than two points away."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        packages = os.environ.get("DISTIL_PACKAGES", str(ROOT / "artifacts" / "packages"))
        own = {"DISTIL_ARTIFACTS": str(home / "artifacts"), "DISTIL_RESULTS": str(home / "results")}
        for words in (["data"], ["student", "--arm", "plain"]):
            command = [sys.executable, "-m", "distil.run", "step", *words, "--task", "sst2"]
            environment = {**os.environ, **own, "DISTIL_PACKAGES": packages}
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
        ours, committed = (
            json.loads((root / RECORD).read_text(encoding="utf-8"))
            for root in (home / "results", ROOT / "results")
        )
    weights = "model.safetensors"
    found = {"same_bits": ours["outputs"][weights] == committed["outputs"][weights]}
    scores = ours["metrics"].items()
    found["points"] = {
        split: round(100 * (now["accuracy"] - committed["metrics"][split]["accuracy"]), 2)
        for split, now in scores
    }
    for name, record in (("then", committed), ("now", ours)):
        found[name] = {key: record[key] for key in ("device", "versions", "git")}
    text = json.dumps(found, indent=1) + "\n"
    (ROOT / "results" / "verify.json").write_text(text, encoding="utf-8")
    print(text, end="")
    return int(max(map(abs, found["points"].values())) > 2)


if __name__ == "__main__":
    sys.exit(main())
