"""The folders of the project, all resolved from this file, so that the caller's working directory never matters."""

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
NOTEBOOKS = ROOT / "notebooks"
TOY = Path(__file__).resolve().parent / "toy"
# The evidence: small records, figures, executed notebooks. Kept in git.
RESULTS = Path(os.environ.get("DISTIL_RESULTS") or ROOT / "results").expanduser().resolve()
# What a rule can make again and git does not keep: prepared data, weights, transfer sets.
ARTIFACTS = Path(os.environ.get("DISTIL_ARTIFACTS") or ROOT / "artifacts").expanduser().resolve()
# Package files; an offline box points this at a folder that holds them.
PACKAGES = Path(os.environ.get("DISTIL_PACKAGES") or ARTIFACTS / "packages").expanduser().resolve()


def artifact(profile: str, task: str, name: str) -> Path:
    """Path of an intermediate file or folder of one profile and task."""
    return ARTIFACTS / profile / task / name


def code_digest(*modules: str) -> str:
    """sha256 of the source of some modules of ``distil``: a checkpoint is resumed by the code that wrote it."""
    return hashlib.sha256(b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in modules)).hexdigest()


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a process that is killed, or a full disk, leaves the old one."""
    part = path.with_suffix(f"{path.suffix}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


def data_record(profile: str, task: str) -> Path:
    """Path of the record of one prepared data set."""
    return RESULTS / "data" / profile / f"{task}.json"


def figure(profile: str, name: str) -> Path:
    """Path of one figure of a profile; its folder is made."""
    path = RESULTS / "figures" / profile / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def run_name(role: str, seed: int, arm: str = "") -> str:
    """Name of a run's record and of its folder of artifacts: ``teacher-seed0``.

    An ablation's run has its arm in front, ``no-mask-transfer-set-seed0``, and its student the arm alone, ``no-mask-seed0``.
    """
    if arm:
        role = arm if role.startswith("student") else f"{arm}-{role}"
    return f"{role}-seed{seed}"


def run_record(profile: str, task: str, role: str, seed: int, arm: str = "") -> Path:
    """Path of the record of one run; an ablation's run (``arm``) is kept apart from the runs of the main table."""
    return RESULTS / ("ablation" if arm else "runs") / profile / task / f"{run_name(role, seed, arm)}.json"
