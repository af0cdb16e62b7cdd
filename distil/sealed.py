"""Folders that are whole: ``sha256.json``, which is written last, names the digest of every other file.

What a run keeps for later (a model, a checkpoint) is read again hours or weeks after it was written, by a process that may have
to tell a half-written or damaged copy from a good one.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from distil.packages import sha256

SEAL = "sha256.json"


class SealError(RuntimeError):
    """A folder is not as it was written; the message says which files and what to do."""


def seal(folder: Path, names: Iterable[str] = ()) -> None:
    """Write the seal of some files of a folder, or of all that it has now; what is added later is not under it."""
    files = [folder / name for name in names] or sorted(path for path in folder.iterdir() if path.is_file())
    digests = {path.name: sha256(path) for path in files if path.name != SEAL}
    (folder / SEAL).write_text(json.dumps(digests, indent=1), encoding="utf-8")


def broken(folder: Path) -> list[str]:
    """Names of the files that are missing or not as they were sealed; the seal itself if there is none that can be read."""
    try:
        digests = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return [name for name, sha in digests.items() if not (folder / name).is_file() or sha256(folder / name) != sha]
    except (OSError, ValueError, AttributeError):  # absent, damaged, or JSON of another kind
        return [SEAL]


def check(folder: Path, remedy: str) -> None:
    """A SealError with ``remedy`` if something in the folder is missing or damaged."""
    if wrong := broken(folder):
        raise SealError(f"{folder.parent.name}/{folder.name}: {', '.join(wrong)} missing or damaged. {remedy}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process at a time; the system frees it when a process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
