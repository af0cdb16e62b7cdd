"""Vocabulary and vectors: every source gives the same vectors, and faults are named in one line."""

import os
import pickle
import sys
import types
from unittest import mock

import numpy as np
import pytest
from huggingface_hub import constants

from distil import records, teacher
from distil.batching import PAD
from distil.embeddings import build_vocabulary, frequent_words, load_vectors

WORDS = ["</s>", "in", "café", "New_York", "日本語", "film"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
HUB = "someone/vectors@" + "0123456789abcdef" * 2 + "01234567"


def load(source, *words, seed=0):
    """Return word -> vector, and the share of the words that the source has."""
    vocabulary = build_vocabulary([words])
    source = source if isinstance(source, list) else str(source)
    table, share = load_vectors(source, vocabulary, seed=seed)
    assert not table[PAD].any() and table.dtype.is_floating_point
    return {word: table[number].numpy() for word, number in vocabulary.items()}, share


def write_text(path, header=b"", gap=b" ", end=b"\n"):
    rows = zip(WORDS, VECTORS, strict=True)
    lines = (gap.join([w.encode(), *(repr(x).encode() for x in v.tolist())]) for w, v in rows)
    path.write_bytes(header + b"".join(line + end for line in lines))
    return path


def write_binary(path, end=b"", words=WORDS):
    rows = zip(words, VECTORS, strict=True)
    body = (os.fsencode(word) + b" " + vector.tobytes() + end for word, vector in rows)
    path.write_bytes(b"6 5\n" + b"".join(body))
    return path


FORMATS = {
    "text": lambda folder: write_text(folder / "v.txt"),
    "header": lambda folder: write_text(folder / "v.txt", b"6 5\n"),
    "word2vec's": lambda folder: write_text(folder / "v.txt", b"6 5\n", end=b" \n"),
    "tabs": lambda folder: write_text(folder / "v.txt", gap=b"\t"),
    "BOM, wide": lambda folder: write_text(folder / "v.txt", b"\xef\xbb\xbf6 5\n", gap=b"  "),
    "Windows": lambda folder: write_text(folder / "v.txt", b"6 5\r\n", end=b"\r\n"),
    "Google's": lambda folder: write_binary(folder / "v.bin"),
    "word2vec.c's": lambda folder: write_binary(folder / "v.bin", b"\n"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_known_words_get_their_vectors_from_every_format(tmp_path, name):
    path = FORMATS[name](tmp_path)
    found, share = load(path, *WORDS[1:], "unseen")
    np.testing.assert_array_equal([found[word] for word in WORDS[1:]], VECTORS[1:])
    assert share == pytest.approx(5 / 6) and 0 < np.abs(found["unseen"]).max() <= 0.25
    assert frequent_words(str(path), 2) == WORDS[:2] and frequent_words(str(path), 9) == WORDS


def test_sources_stand_side_by_side_and_each_is_in_the_record(tmp_path):
    one, other = write_text(tmp_path / "v.txt"), tmp_path / "w.txt"
    other.write_text("the 1 2\nin 3 4\n")
    found, share = load([str(one), str(other), "random:3"], "in", "film", "the", "unseen")
    alone, _ = load(one, *found)
    assert share == 3 / 4 and all(np.array_equal(found[w][:5], alone[w]) for w in ("in", "film"))
    assert [*found["in"][5:7]] == [3, 4] and [*found["the"][5:7]] == [1, 2]
    assert len({*found["unseen"]}) == 10 and np.abs(found["unseen"]).max() <= 0.25
    assert frequent_words([str(other), str(one)], 9) == ["the", "in"]
    chosen = {"vectors": ["packages", str(one), str(other)]}
    assert records.as_config(chosen) == {"vectors": ["packages", "v.txt", "w.txt"]}
    step = records.Step("student", "none", "sst2", "distilled")
    with mock.patch.object(records.Step, "reads", lambda self: []):
        assert list(step.inputs(chosen)) == ["vectors1/v.txt", "vectors2/w.txt"]


def test_vocabulary_is_by_frequency_and_a_mask_is_not_in_it():
    vocabulary = build_vocabulary([["b", "a", "b", "[MASK]"], ["c"]], extra=["a", "d"])
    assert list(vocabulary.items()) == list(zip(["<pad>", "<unk>", *"bacd"], range(6), strict=True))


def test_unknown_words_are_uniform_and_seeded():
    words = [f"w{i}" for i in range(2000)]
    (found, share), (again, _), (other, _) = (load("random:10", *words, seed=s) for s in (4, 4, 5))
    values, again, other = ([which[word] for word in words] for which in (found, again, other))
    assert share == 0 and np.abs(values).max() <= 0.25 and frequent_words("random:10", 9) == []
    assert np.quantile(values, [0.25, 0.5, 0.75]) == pytest.approx([-0.125, 0, 0.125], abs=0.01)
    assert np.array_equal(values, again) and not np.array_equal(values, other)


def test_a_word_is_the_mean_of_its_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ARTIFACTS", tmp_path)
    (tmp_path / "models").mkdir()
    folder, _ = teacher.resolve("tiny", [["un film good ##s ##able . !"]])
    model, tokenizer = teacher.load(folder, 2)
    vectors = model.get_input_embeddings().weight.detach().numpy()
    table = {piece: vectors[number] for piece, number in tokenizer.get_vocab().items()}
    source = f"pieces:{folder}"
    found, share = load(source, "film", "films", "unables", "xyz")
    mean = {"film": table["film"], "films": (table["film"] + table["##s"]) / 2}
    mean["unables"] = (table["un"] + table["##able"] + table["##s"]) / 3
    scale = found["film"][0] / mean["film"][0]
    for word, expected in mean.items():
        np.testing.assert_allclose(found[word], expected * scale, rtol=1e-5)
    assert np.std([found[word] for word in mean]) == pytest.approx(0.25 / 3**0.5, rel=1e-4)  # as U
    assert share == 3 / 4 and np.abs(found["xyz"]).max() <= 0.25
    assert frequent_words(source, 9) == ["film", "good", "un"] and not frequent_words(source, 0)


@pytest.mark.parametrize("header", [b"", b"5 2\n"])
def test_a_word_may_hold_spaces_line_separators_and_a_carriage_return(tmp_path, header):
    lines = ["at 1 1 3 4", "the 1 2", "x\u0085y 5 6", "cr\r 7 8", "", ". 9 0"]
    (tmp_path / "v.txt").write_bytes(header + "\n".join(lines).encode())
    found, share = load(tmp_path / "v.txt", "the", ".", "x\u0085y", "of")
    assert [[*found[w]] for w in ("the", ".", "x\u0085y")] == [[1, 2], [9, 0], [5, 6]]
    assert share == 3 / 4
    assert frequent_words(str(tmp_path / "v.txt"), 9) == ["at 1 1", "the", "x\u0085y", "cr\r", "."]
    words = ["a\nb", "cr\r", "x\u0085y\u2028", 'q"', "\\", "日本語"]
    path = str(write_binary(tmp_path / "v.bin", words=words))
    vocabulary = build_vocabulary([], frequent_words(path, 9))
    assert list(vocabulary)[2:] == list(words)
    np.testing.assert_array_equal(load_vectors(path, vocabulary, seed=0)[0][2:], VECTORS)


def test_the_first_of_a_word_twice_is_used_and_no_utf8_is_skipped_and_counted(tmp_path, capsys):
    rows = [(b"the", 1), (b"caf\xe9", 2), (b"the", 3), (b"\xff", 4), (b"film", 5)]
    text, binary = tmp_path / "v.txt", tmp_path / "v.bin"
    text.write_bytes(b"".join(b"%b %d\n" % row for row in rows))
    binary.write_bytes(b"5 1\n" + b"".join(w + b" " + np.float32(x).tobytes() for w, x in rows))
    for path in (text, binary):
        found, share = load(path, "the", "film", "caf\ufffd")
        assert (found["the"], found["film"], share) == (1, 5, 2 / 3)
        assert f"{path}: skipped 2 words" in capsys.readouterr().err


HEADS = (b"", b"6\n", b"6 0\n", b"6 5", b"\x00\x80" * 5000)
MALFORMED = [("v.bin", head, "a first line 'count width', got") for head in HEADS] + [
    ("v.txt", b"the 0.1 0.2\nfilm 0.1\n", "line 2: wanted a word and 2 numbers"),
    ("v.txt", b"2 3\nthe 0.1 0.2\n", "line 2: wanted a word and 3 numbers"),
    ("v.txt", b"\x1f\x8b\x08\x00 of gzip", "line 1: wanted a word and its numbers"),
    ("v.txt", b"cr 1 2\rthe 3 4\rfilm 5 6", r"line 1: .*, got b'cr 1 2\\rthe 3 4"),
    ("v.bin", b"2 2\nthe 0.1 0.2\nfilm 0.1234 -0.234\n", r"wanted 2 words of 2 .* call it \.txt"),
    ("v.bin", b"1 2\nfilm \x00\x00\x80?\x00\x00\xc0\x7f", r"v\.bin, word 1: wanted finite"),
]
NUMBERS = ("nan", "-nan", "inf", "-Infinity", "1e39", "oops", "0.1.2")
FINITE = r"v\.txt, line 2: wanted finite numbers after 'film'"
MALFORMED += [("v.txt", f"the 0.1 0.2\nfilm 0.1 {n}\n".encode(), FINITE) for n in NUMBERS]


@pytest.mark.parametrize(("name", "content", "message"), MALFORMED)
def test_a_malformed_file_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / name, "the", "film")
    assert len(str(caught.value)) < 500


def test_an_unknown_source_one_without_our_words_and_one_cut_anywhere_are_refused(tmp_path):
    for source in ("no/file.txt", "random:wide", "random:0", "someone/name@main"):
        with pytest.raises(ValueError, match=r"no word vectors at .*random:<width>.*commit"):
            load(source, "the")
    with pytest.raises(ValueError, match="none of the words"):
        load(write_text(tmp_path / "v.txt"), "other")
    whole = (path := write_binary(tmp_path / "v.bin")).read_bytes()
    for end in range(len(b"6 5\n"), len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"ends early, in word [1-6] of 6"):
            load(path, "film")
    path.write_bytes(whole[:80])
    assert frequent_words(str(path), 2) == WORDS[:2]


@pytest.fixture
def on_hub(tmp_path, monkeypatch):
    """Give a function that puts a gensim object and its vectors into an offline cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    module = types.ModuleType("gensim.models.keyedvectors")
    module.KeyedVectors = type("KeyedVectors", (), {"__module__": module.__name__})
    for name in ("gensim", "gensim.models", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    folder = tmp_path / "models--someone--vectors" / "snapshots" / HUB.partition("@")[2]
    folder.mkdir(parents=True)

    def put(words, vectors=VECTORS):
        saved = module.KeyedVectors()
        saved.__dict__.update(index_to_key=words, count=np.arange(9), size=np.int64(5), note={"a"})
        (folder / "vectors.model").write_bytes(pickle.dumps(saved))
        np.save(folder / "vectors.model.vectors.npy", vectors, allow_pickle=True)
        return folder

    return put


def test_gensims_files_are_read_and_a_damaged_or_missing_one_is_one_line(on_hub):
    folder = on_hub(WORDS)
    found, share = load(HUB, *WORDS, "unseen")
    np.testing.assert_array_equal([found[word] for word in WORDS], VECTORS)
    assert share == pytest.approx(6 / 7) and frequent_words(HUB, 2) == WORDS[:2]
    wrong = [(words, VECTORS) for words in ({1}, None, [1] * 6, WORDS[:5], [b"in"] * 6)]
    for words, vectors in [*wrong, (WORDS, np.array([[{}]] * 6, dtype=object))]:
        on_hub(words, vectors)
        with pytest.raises(ValueError, match="no word vectors at"):
            load(HUB, "film")
    for name in ("vectors.model", "vectors.model.vectors.npy"):
        whole = (on_hub(WORDS) / name).read_bytes()
        for end in (0, 5, len(whole) // 2, len(whole) - 1, None):
            path = folder / name
            path.write_bytes(whole[:end]) if end is not None else path.unlink()
            with pytest.raises(ValueError, match=r"GoogleNews\S+\.bin.*HF_ENDPOINT") as caught:
                load(HUB, "film")
            assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
