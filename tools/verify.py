"""Makes one committed run again, beside everything that is there, and says how near it comes.

The run is the plain student on vader-movie: real data, and a minute of training.
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
    """Make the run again; return 1 if its scores are more than two points away."""
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
    same = ours["outputs"].get("model.safetensors") == committed["outputs"]["model.safetensors"]
    print(f"weights: {'the same to the bit' if same else 'other bits'}")
    furthest = 0.0
    for split, scores in committed["metrics"].items():
        difference = ours["metrics"][split]["accuracy"] - scores["accuracy"]
        furthest = max(furthest, abs(difference))
        print(f"{split}: {100 * scores['accuracy']:.1f} on record, {100 * difference:+.1f} now")
    return int(furthest > 0.02)


if __name__ == "__main__":
    sys.exit(main())
