"""``make verify``: a committed run made again, and by how much it differs: ``python tests/verify.py FOLDER``.

``FOLDER`` holds the results of the new run, in the layout of ``results/``. On the same machine and versions a run on the CPU
is the same to the bit; elsewhere matrix products round otherwise, and training carries that on.
"""

import sys
from pathlib import Path

import numpy as np

from distil import paths, records


def compare(made: Path, committed: Path) -> tuple[bool, str]:
    """Whether two records and their logits match, and a line that says so or by how much not."""
    new, old = records.read(made), records.read(committed)
    if new["config"] != old["config"]:
        changed = sorted(key for key in old["config"] if new["config"].get(key) != old["config"][key])
        return False, f"made with another config than the record: {', '.join(changed) or 'new keys'}"
    lines, same = [], True
    predictions = records.read_predictions(committed)
    for split, (logits, labels) in records.read_predictions(made).items():
        reference, gold = predictions[split]
        if not np.array_equal(labels, gold):
            return False, f"{split} has other examples than the record's"
        away, flipped = np.abs(logits - reference).max(), (logits.argmax(axis=1) != reference.argmax(axis=1)).mean()
        same &= bool(away == 0)
        score, was = (record["metrics"][split]["accuracy"] for record in (new, old))
        lines.append(
            f"{split} accuracy {score:.4f}, was {was:.4f}; logits differ by {away:.2g}, {flipped:.1%} of answers"
        )
    if not same and new["versions"] != old["versions"]:
        lines.append(f"versions differ: {new['versions']} against {old['versions']}")
    return same, "; ".join(lines)


def main(folder: str) -> int:
    """Compare every run of a folder with the committed one; the exit status is 1 if any differs."""
    made = sorted((Path(folder) / "runs").rglob("*.json"))
    results = {path: compare(path, paths.ROOT / "results" / path.relative_to(folder)) for path in made}
    for path, (same, line) in results.items():
        print(f"{'match' if same else 'DIFFERS'}: {path.relative_to(folder)}: {line}")
    return int(not results or not all(same for same, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
