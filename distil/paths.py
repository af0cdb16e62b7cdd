"""The folders of the project, all resolved from this file, so that the caller's working directory never matters."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
NOTEBOOKS = ROOT / "notebooks"
TOY = Path(__file__).resolve().parent / "toy"
# The evidence: small records, figures, executed notebooks. Kept in git.
RESULTS = Path(os.environ.get("DISTIL_RESULTS", ROOT / "results")).resolve()
# What a rule can make again and git does not keep: prepared data, weights, transfer sets.
ARTIFACTS = Path(os.environ.get("DISTIL_ARTIFACTS", ROOT / "artifacts")).resolve()
# Package files; an offline box points this at a folder that holds them.
PACKAGES = Path(os.environ.get("DISTIL_PACKAGES", ARTIFACTS / "packages")).expanduser().resolve()


def artifact(profile: str, task: str, name: str) -> Path:
    """Path of an intermediate file or folder of one profile and task."""
    return ARTIFACTS / profile / task / name


def data_record(profile: str, task: str) -> Path:
    """Path of the record of one prepared data set."""
    return RESULTS / "data" / profile / f"{task}.json"


def figure(profile: str, name: str) -> Path:
    """Path of one figure of a profile; its folder is made."""
    path = RESULTS / "figures" / profile / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def run_record(profile: str, task: str, role: str, seed: int, arm: str = "") -> Path:
    """Path of the record of one run; an ablation's run (``arm``) is kept apart from the runs of the main table."""
    if arm:
        return RESULTS / "ablation" / profile / task / f"{arm}-seed{seed}.json"
    return RESULTS / "runs" / profile / task / f"{role}-seed{seed}.json"
