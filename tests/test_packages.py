"""Package files are pinned archives: no wrong file is used, and no file of the user is deleted."""

import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from distil import packages
from distil.packages import PackageFile, extract_folder, fetch, open_member


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "PACKAGES", tmp_path / "packages")
    (tmp_path / "packages").mkdir()
    return tmp_path / "packages"


def zip_of(members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


def tar_of(name, content):
    raw, info = io.BytesIO(), tarfile.TarInfo(name)
    info.size = len(content)
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def put(folder, filename, content):
    (folder / filename).write_bytes(content)
    return PackageFile(hashlib.sha256(content).hexdigest(), filename)


def test_members_of_a_wheel_and_of_an_archive_inside_an_sdist(folder, monkeypatch):
    wheel = put(folder, "thing-1.0-py3-none-any.whl", zip_of({"thing/b.txt": b"second"}))
    with open_member(wheel, "thing/b.txt") as stream:
        assert stream.read() == b"second"
    inner = tar_of("deep/data.txt", b"one\ntwo\n")
    sdist = put(folder, "thing-1.0.tar.gz", tar_of("thing-1.0/inner.tar.gz", inner))
    with open_member(sdist, "thing-1.0/inner.tar.gz", "deep/data.txt") as stream:
        assert list(stream) == [b"one\n", b"two\n"]
    path = folder / wheel.filename
    path.write_bytes(content := path.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(zipfile, "ZipFile", None)  # nothing of a changed file is read
    for attempt in (fetch, lambda file: open_member(file, "thing/b.txt")):
        with pytest.raises(ValueError, match=rf"{wheel.filename} has sha256 .*Delete it"):
            attempt(wheel)
    assert path.read_bytes() == content


class Index:
    """A package index with one file, in the place of pypi_simple's client."""

    def __init__(self, filename, content, error=None):
        self.filename, self.content, self.error, self.asked = filename, content, error, []

    def get_project_page(self, project, timeout):
        self.asked.append(project)
        return SimpleNamespace(packages=[SimpleNamespace(filename=self.filename)])

    def download_package(self, package, path, **kwargs):
        if self.error:
            raise self.error
        path.write_bytes(self.content)

    def __call__(self, endpoint):
        self.asked.append(endpoint)
        return nullcontext(self)


@pytest.mark.parametrize("variable", [True, False])
def test_a_file_is_downloaded_once_from_the_mirror_of_pip(folder, tmp_path, monkeypatch, variable):
    file = PackageFile(hashlib.sha256(b"content").hexdigest(), "thing-1.0.tar.gz")
    index = Index(file.filename, b"content")
    monkeypatch.setattr(packages, "PyPISimple", index)
    places = ["https://mirror.example/simple", "https://other.example"]
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {places[variable]}\n")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    if variable:
        monkeypatch.setenv("PIP_INDEX_URL", places[0])
    assert fetch(file).read_bytes() == fetch(file).read_bytes() == b"content"
    assert index.asked == [places[0], "thing"]
    assert [path.name for path in folder.iterdir()] == [file.filename]


@pytest.mark.parametrize("error", [None, OSError("no route " + "x" * 999)])
def test_a_failed_download_says_what_to_do_in_one_line(folder, monkeypatch, error):
    index = Index("thing-1.0.tar.gz" if error else "thing-2.0.tar.gz", b"", error)
    wanted = "no route" if error else "the index does not have this file"
    monkeypatch.setattr(packages, "PyPISimple", index)
    with pytest.raises(ValueError, match=wanted) as error:
        fetch(PackageFile("0" * 64, "thing-1.0.tar.gz"))
    assert len(str(error.value)) <= 500 and "\n" not in str(error.value)
    assert all(name in str(error.value) for name in ("HTTPS_PROXY", "DISTIL_PACKAGES"))
    assert not list(folder.iterdir())


class Attack:
    def __reduce__(self):
        return os.mkdir, (str(packages.PACKAGES / "attacked"),)


def test_the_reader_of_pickles_runs_no_code(folder):
    raw = pickle.dumps({"words": ["a"], "bad": [Attack()], "set": {"b"}}, protocol=2)
    found = packages.InertUnpickler(io.BytesIO(raw)).load()
    assert found["words"] == ["a"] and found["set"].given == (["b"],) and not list(folder.iterdir())
    pickle.loads(raw)
    assert list(folder.iterdir())


def test_a_folder_is_extracted_whole_or_not_at_all_and_from_pieces_in_order(folder, tmp_path):
    members = {"model/a.txt": b"first" * 1000, "model/b.txt": b"second"}
    whole, pieces = zip_of(members), []
    for start in range(0, len(whole), 2000):
        inside = zip_of({f"in/model.zip.{start}": whole[start : start + 2000]})
        pieces.append((put(folder, f"part_{start}-1.0.whl", inside), f"in/model.zip.{start}"))
    for given in ([(put(folder, "thing-1.0.whl", whole), "")], pieces):
        with pytest.raises(FileNotFoundError):
            extract_folder(given, "model/", ("a.txt", "none.txt"), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        extract_folder(given, "model/", ("a.txt", "b.txt"), out := tmp_path / str(len(given)))
        assert {f"model/{path.name}": path.read_bytes() for path in out.iterdir()} == members
    assert len(pieces) > 2
