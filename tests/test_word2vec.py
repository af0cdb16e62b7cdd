"""Files of word2vec: each format is read as it was written, no more of it than is wanted, and no pickle runs code."""

import contextlib
import hashlib
import http.server
import os
import pickle
import sys
import threading
import types

import numpy as np
import pytest
from huggingface_hub import constants

from distil import embeddings, word2vec
from distil.embeddings import EmbeddingError, load_vectors
from distil.vocabulary import build_vocabulary

COMMIT = "528f381952a0b7d777bb4a611c4a43f588d48994"
REPOSITORY = "fse/word2vec-google-news-300"
WORDS = ["</s>", "in", "café", "New_York", "日本語", "film"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)


def load(path, *words):
    """The vectors of the words that the source has, by word."""
    vocabulary = build_vocabulary([words])
    vectors, _ = load_vectors(str(path), vocabulary, seed=0)
    return {word: vectors[vocabulary.ids[word]].numpy() for word in words if word in WORDS}


def check(found):
    for word, vector in found.items():
        np.testing.assert_array_equal(vector, VECTORS[WORDS.index(word)], err_msg=word)


# --- word2vec's own format --------------------------------------------------------------------------------------------


def write_binary(path, *, line_feed=b"", words=WORDS, vectors=VECTORS):
    head = f"{len(words)} {vectors.shape[1]}\n".encode()
    rows = (word.encode() + b" " + vector.tobytes() for word, vector in zip(words, vectors, strict=True))
    path.write_bytes(head + line_feed.join(rows) + line_feed)
    return path


@pytest.mark.parametrize("line_feed", [b"", b"\n"], ids=["as Google's", "as word2vec.c's"])
@pytest.mark.parametrize("block", [1, 2, 3, 7, 19, 20, 21, 64, 1 << 20])
def test_a_binary_file_is_read_whatever_the_block(tmp_path, monkeypatch, block, line_feed):
    monkeypatch.setattr(word2vec, "BLOCK", block)
    path = write_binary(tmp_path / "v.bin", line_feed=line_feed)
    check(load(path, *WORDS, "unknown"))
    assert embeddings.frequent_words(str(path), 4) == WORDS[:4]


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_a_binary_file_that_is_cut_anywhere_is_refused(tmp_path, monkeypatch, block):
    monkeypatch.setattr(word2vec, "BLOCK", block)
    whole = write_binary(tmp_path / "v.bin").read_bytes()
    for end in range(len(b"6 5\n"), len(whole)):
        (tmp_path / "v.bin").write_bytes(whole[:end])
        with pytest.raises(EmbeddingError, match=r"ends early; of 6 words it has [0-5]"):
            load(tmp_path / "v.bin", *WORDS)


@pytest.mark.parametrize("head", [b"", b"6\n", b"6 0\n", b"6 five\n", b"-6 5\n", b"6 5", b"\x00\x80" * 5000])
def test_another_file_that_is_called_bin_is_refused(tmp_path, head):
    (tmp_path / "v.bin").write_bytes(head)
    with pytest.raises(EmbeddingError, match="begins with the line 'count width'"):
        load(tmp_path / "v.bin", "film")


def test_vectors_of_a_binary_file_that_are_not_wanted_are_not_decoded(tmp_path, monkeypatch):
    decoded = []
    real = word2vec._floats
    monkeypatch.setattr(word2vec, "_floats", lambda *args: decoded.append(args[1:]) or real(*args))
    path = write_binary(tmp_path / "v.bin")
    assert embeddings.frequent_words(str(path), 6) == WORDS and not decoded
    check(load(path, "film", "in"))
    assert len(decoded) == 2


def test_words_are_found_without_the_rest_of_a_binary_file(tmp_path):
    path = write_binary(tmp_path / "v.bin")
    path.write_bytes(path.read_bytes()[:80])
    assert embeddings.frequent_words(str(path), 2) == WORDS[:2]


# --- gensim's format --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fake_modules(*names):
    """Modules under these names, so that a pickle can name what is in them; gone afterwards."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: types.ModuleType(name) for name in names})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def named(module, name, value):
    """Put a class or function into a module so that pickle writes it by that name."""
    value.__module__, value.__name__, value.__qualname__ = module, name, name
    setattr(sys.modules[module], name, value)
    return value


class Pickler(pickle.Pickler):
    """Writes arrays under the names of a given numpy: ``numpy.core`` before numpy 2, ``numpy._core`` since."""

    def __init__(self, *args, reconstruct, scalar, **kwargs):
        super().__init__(*args, **kwargs)
        self.made_by = {np.ndarray: reconstruct, np.int64: scalar}

    def reducer_override(self, value):
        if type(value) not in self.made_by:
            return NotImplemented
        _, arguments, *state = value.__reduce__()
        return self.made_by[type(value)], arguments, *state


def save_gensim(path, *, core="core", name="KeyedVectors", words=WORDS, vectors=VECTORS, more=None):
    """What gensim's ``KeyedVectors.save`` writes: the object without its vectors, and beside it the vectors."""
    attributes = {
        "vector_size": np.int64(5),
        "index_to_key": words,
        "next_index": len(words),
        "key_to_index": {word: number for number, word in enumerate(words)},
        "norms": None,
        "expandos": {"count": np.arange(len(words))[::-1].copy(), "note": np.array(["a", None], dtype=object)},
        "lifecycle_events": [{"event": "load_word2vec_format", "python": sys.version}],
        "__numpys": ["vectors"],
        **(more or {}),
    }
    if name == "Word2VecKeyedVectors":  # gensim 3
        attributes["index2word"] = attributes.pop("index_to_key")
    arrays, keyed = f"numpy.{core}.multiarray", "gensim.models.keyedvectors"
    with fake_modules("gensim", "gensim.models", keyed, arrays), path.open("wb") as stream:
        saved = named(keyed, name, type(name, (), {}))()
        if name == "Word2VecKeyedVectors":
            vocab = named(keyed, "Vocab", type("Vocab", (), {}))()
            vocab.count = 7
            attributes["vocab"] = dict.fromkeys(attributes.pop("key_to_index"), vocab)
        saved.__dict__.update(attributes)
        functions = {f: named(arrays, f, lambda *args: None) for f in ("_reconstruct", "scalar")}
        Pickler(stream, 4, reconstruct=functions["_reconstruct"], scalar=functions["scalar"]).dump(saved)
    np.save(path.with_name(f"{path.name}.vectors.npy"), vectors)
    return path.with_name(f"{path.name}.vectors.npy")


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("name", ["KeyedVectors", "Word2VecKeyedVectors"])
def test_gensims_files_are_read_without_gensim(tmp_path, core, name):
    path = save_gensim(tmp_path / "x.model", core=core, name=name)
    raw = (tmp_path / "x.model").read_bytes()
    for wanted in ("gensim.models.keyedvectors", name, f"numpy.{core}.multiarray", "_reconstruct", "scalar"):
        assert wanted.encode() in raw  # the file is what it pretends to be
    assert "gensim" not in sys.modules
    check(load(path, *WORDS, "unknown"))
    assert embeddings.frequent_words(str(path), 3) == WORDS[:3]


def test_a_npy_file_may_have_its_words_in_a_text_file(tmp_path):
    words = ["a\u0085b", *WORDS[1:]]
    np.save(tmp_path / "x.npy", VECTORS.astype(">f8"))
    (tmp_path / "x.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    check(load(tmp_path / "x.npy", *WORDS[1:]))
    assert embeddings.frequent_words(str(tmp_path / "x.npy"), 9) == words


class Spy(np.memmap):
    """A mapped file that notes which rows are read."""

    read: list = []  # noqa: RUF012

    def __getitem__(self, key):
        Spy.read.append(key)
        return super().__getitem__(key)


def test_only_wanted_rows_of_a_mapped_file_are_read(tmp_path, monkeypatch):
    vectors = VECTORS.copy()
    vectors[[0, 2, 3, 4]] = np.nan
    path = save_gensim(tmp_path / "x.model", vectors=vectors)
    real, how = np.load, []

    def spied(*args, **kwargs):
        how.append(kwargs)
        return real(*args, **kwargs).view(Spy)

    monkeypatch.setattr(Spy, "read", [])
    monkeypatch.setattr(np, "load", spied)
    assert embeddings.frequent_words(str(path), 6) == WORDS and Spy.read == []
    table, _ = load_vectors(str(path), build_vocabulary([["film", "in", "unknown"]]), seed=0)
    assert Spy.read == [1, 5] and not table.isnan().any()
    assert how == [{"mmap_mode": "r", "allow_pickle": False}] * 2


def test_another_number_of_words_than_of_vectors_is_refused(tmp_path):
    path = save_gensim(tmp_path / "x.model", vectors=VECTORS[:-1])
    with pytest.raises(EmbeddingError, match="6 words and 5 vectors"):
        load(path, "in")
    np.save(tmp_path / "y.npy", VECTORS)
    (tmp_path / "y.txt").write_text("one\ntwo\n")
    with pytest.raises(EmbeddingError, match="2 words and 6 vectors"):
        embeddings.frequent_words(str(tmp_path / "y.npy"), 1)


def test_missing_words_are_asked_for_by_name(tmp_path):
    np.save(tmp_path / "x.npy", VECTORS)
    with pytest.raises(EmbeddingError, match=r"put beside it \S*x\.txt, one word a line"):
        load(tmp_path / "x.npy", "in")
    path = save_gensim(tmp_path / "y.model")
    (tmp_path / "y.model").unlink()
    with pytest.raises(
        EmbeddingError, match=r"put beside it \S*y\.model \(gensim's file\) or \S*y\.model\.vectors\.txt"
    ):
        load(path, "in")


@pytest.mark.parametrize(
    "array, wanted",
    [
        (np.zeros(6, np.float32), r"wanted a matrix of floats \[words, width\], got float32 \(6,\)"),
        (np.zeros((6, 5), np.int64), r"got int64 \(6, 5\)"),
        (np.array([[print]]), "not a whole .npy"),
    ],
)
def test_a_npy_file_of_something_else_is_refused(tmp_path, array, wanted):
    (tmp_path / "x.txt").write_text("\n".join(WORDS), encoding="utf-8")
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(EmbeddingError, match=wanted):
        load(tmp_path / "x.npy", "in")


def test_a_damaged_file_is_an_error_with_its_name(tmp_path):
    path = save_gensim(tmp_path / "x.model")
    pickled, array = (tmp_path / "x.model").read_bytes(), path.read_bytes()
    for end in range(0, len(pickled) - 1, 41):
        (tmp_path / "x.model").write_bytes(pickled[:end])
        with pytest.raises(EmbeddingError, match=r"x\.model: cannot be read as gensim's"):
            load(path, "in")
    (tmp_path / "x.model").write_bytes(pickled)
    for end in (0, 5, 60, len(array) - 1):
        path.write_bytes(array[:end])
        with pytest.raises(EmbeddingError, match=r"x\.model\.vectors\.npy: not a whole \.npy"):
            load(path, "in")
    np.savez(tmp_path / "x.npz", VECTORS)
    (tmp_path / "x.npz").replace(path)
    with pytest.raises(EmbeddingError, match="got an archive"):
        load(path, "in")
    np.save(tmp_path / "y.npy", VECTORS)
    (tmp_path / "y.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(EmbeddingError, match=r"y\.txt: not UTF-8"):
        load(tmp_path / "y.npy", "in")


@pytest.mark.parametrize("saved", [["not", "an", "object"], {"index_to_key": WORDS}])
def test_a_pickle_of_something_else_is_refused(tmp_path, saved):
    np.save(tmp_path / "x.vectors.npy", VECTORS)
    (tmp_path / "x").write_bytes(pickle.dumps(saved))
    with pytest.raises(EmbeddingError, match="wanted gensim's KeyedVectors with a list of words"):
        load(tmp_path / "x.vectors.npy", "in")


@pytest.mark.parametrize("words", [None, [1, 2], "in", [b"in"]])
def test_words_that_are_no_list_of_text_are_refused(tmp_path, words):
    path = save_gensim(tmp_path / "x.model", more={"index_to_key": words})
    with pytest.raises(EmbeddingError, match="with a list of words"):
        load(path, "in")


# --- attacks ----------------------------------------------------------------------------------------------------------


class Attack:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def attack(name, mark):
    """A thing that makes the file ``mark`` when a plain unpickler reads it."""
    python = f"open({str(mark)!r}, 'w').close()"
    evil = mark.with_name("evil.npy")
    evil.write_bytes(pickle.dumps(Attack(exec, python)))
    return {
        "system": Attack(os.system, f"touch {mark}"),
        "eval": Attack(eval, python),
        "exec": Attack(exec, python),
        "load": Attack(np.load, str(evil), None, True),
    }[name]


ATTACKS = {
    "system": r"(posix|nt)\.system",
    "eval": r"(__builtin__|builtins)\.eval",
    "exec": r"(__builtin__|builtins)\.exec",
    "load": r"numpy\.load",
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(tmp_path, name, protocol):
    mark, path = tmp_path / "mark", save_gensim(tmp_path / "x.model")
    (tmp_path / "x.model").write_bytes(pickle.dumps(attack(name, mark), protocol))
    pickle.loads((tmp_path / "x.model").read_bytes())
    assert mark.exists()  # a plain unpickler falls for it
    mark.unlink()
    for read in (lambda: load(path, "in"), lambda: embeddings.frequent_words(str(path), 1)):
        with pytest.raises(EmbeddingError, match=f"refused: the pickle asks for {ATTACKS[name]}, which"):
            read()
    assert not mark.exists()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("attribute", ["expandos", "index_to_key", "__numpys"])
def test_an_attack_inside_gensims_object_is_refused(tmp_path, name, attribute):
    mark = tmp_path / "mark"
    path = save_gensim(tmp_path / "x.model", more={attribute: attack(name, mark)})
    with pytest.raises(EmbeddingError, match=f"refused: the pickle asks for {ATTACKS[name]}, which"):
        load(path, "in")
    assert not mark.exists()


@pytest.mark.parametrize(
    "module, name",
    [
        ("gensim.models.keyedvectors", "KeyedVectors.__init__.__globals__"),
        ("gensim.models.keyedvectors", "os"),
        ("gensim.models.word2vec", "Word2Vec"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy", "frombuffer"),
        ("pickle", "loads"),
        ("distil.word2vec", "Path"),
        ("sys", "modules"),
    ],
)
def test_every_other_global_is_refused_by_name(tmp_path, module, name):
    np.save(tmp_path / "x.vectors.npy", VECTORS)
    strings = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    (tmp_path / "x").write_bytes(b"\x80\x04" + strings + b"\x93.")
    with pytest.raises(EmbeddingError, match=f"asks for {module}.{name}, which"):
        load(tmp_path / "x.vectors.npy", "in")


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub_cache(folder, files, repository=REPOSITORY, commit=COMMIT):
    """A cache as ``huggingface_hub`` leaves it: blobs by digest, and a snapshot of links to them."""
    home = folder / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for part in (home / "blobs", home / "refs", snapshot):
        part.mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    for file in files:
        blob = home / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        file.replace(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return folder


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_vectors_are_read_from_the_hubs_cache(tmp_path, offline):
    vectors = save_gensim(tmp_path / "word2vec-google-news-300.model")
    hub_cache(offline, [tmp_path / "word2vec-google-news-300.model", vectors])
    source = f"{REPOSITORY}@{COMMIT}"
    check(load(source, *WORDS, "unknown"))
    assert embeddings.frequent_words(source, 2) == WORDS[:2]


ADVICE = r"HF_ENDPOINT for a mirror, HF_HOME .*GoogleNews-vectors-negative300\.bin .* student\.yaml's 'vectors'"


def test_what_the_cache_lacks_is_an_error_with_advice(tmp_path, offline):
    with pytest.raises(EmbeddingError, match=rf"cannot fetch word2vec-google-news-300\.model and .*{ADVICE}"):
        load(f"{REPOSITORY}@{COMMIT}", "in")
    vectors = save_gensim(tmp_path / "word2vec-google-news-300.model")
    hub_cache(offline, [tmp_path / "word2vec-google-news-300.model"])
    with pytest.raises(EmbeddingError, match=ADVICE):  # the words are there, the vectors are not
        load(f"{REPOSITORY}@{COMMIT}", "in")
    with pytest.raises(EmbeddingError, match=ADVICE):  # another commit
        load(f"{REPOSITORY}@{COMMIT[::-1]}", "in")
    assert vectors.exists()


class Mirror(http.server.BaseHTTPRequestHandler):
    """A mirror of the hub that has one repository; anything else it answers by ``status``."""

    files: dict = {}  # noqa: RUF012
    status, code = 404, "EntryNotFound"

    def do_HEAD(self):
        body = self.files.get(self.path)
        self.send_response(200 if body is not None else self.status)
        self.send_header("Content-Length", str(len(body or b"")))
        if body is None:
            self.send_header("X-Error-Code", self.code)
        else:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return body or b""

    def do_GET(self):
        self.wfile.write(self.do_HEAD())

    def log_message(self, *args): ...


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(Mirror, "files", {})
        yield Mirror
        server.shutdown()


def test_the_commit_is_fetched_from_a_mirror(tmp_path, mirror, monkeypatch):
    vectors = save_gensim(tmp_path / "word2vec-google-news-300.model")
    for file in (tmp_path / "word2vec-google-news-300.model", vectors):
        mirror.files[f"/{REPOSITORY}/resolve/{COMMIT}/{file.name}"] = file.read_bytes()
    check(load(f"{REPOSITORY}@{COMMIT}", *WORDS))
    monkeypatch.setattr(mirror, "files", {})
    check(load(f"{REPOSITORY}@{COMMIT}", *WORDS))  # it is in the cache now


@pytest.mark.parametrize(
    "status, code", [(401, "RepoNotFound"), (403, "GatedRepo"), (404, "RevisionNotFound"), (404, "EntryNotFound")]
)
def test_a_hub_that_refuses_is_an_error_with_advice(mirror, monkeypatch, status, code):
    monkeypatch.setattr(mirror, "status", status)
    monkeypatch.setattr(mirror, "code", code)
    with pytest.raises(EmbeddingError, match=f"(?s){ADVICE}.*{status}"):
        load(f"{REPOSITORY}@{COMMIT}", "in")
