"""Vocabulary and vectors: every format gives the same vectors; unknown words are drawn from U(-0.25, 0.25)."""

import numpy as np
import pytest

from distil import embeddings, paths, pretrained
from distil.embeddings import EmbeddingError, load_vectors
from distil.vocabulary import PAD, UNKNOWN, build_vocabulary, encode

VECTORS = {"the": [0.1, -0.2, 0.3], "film": [1.0, 2.0, 3.0], "good": [-1.5, 0.5, 0.25]}


def write_text(path):
    path.write_text("".join(f"{w} {' '.join(map(str, v))}\n" for w, v in VECTORS.items()), encoding="utf-8")


def write_text_with_header(path):
    write_text(path)
    path.write_text("3 3\n" + path.read_text(encoding="utf-8"), encoding="utf-8")


def write_text_of_word2vec(path):
    """A space before each line's end, and the count and width in front."""
    write_text_with_header(path)
    path.write_text(path.read_text(encoding="utf-8").replace("\n", " \n"), encoding="utf-8")


def write_binary(path):
    body = b"".join(f"{w} ".encode() + np.array(v, np.float32).tobytes() + b"\n" for w, v in VECTORS.items())
    path.write_bytes(b"3 3\n" + body)


def write_npy(path):
    np.save(path, np.array(list(VECTORS.values()), np.float32))
    path.with_suffix(".txt").write_text("\n".join(VECTORS) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "write, name",
    [
        (write_text, "v.txt"),
        (write_text_with_header, "v.txt"),
        (write_text_of_word2vec, "v.txt"),
        (write_binary, "v.bin"),
        (write_npy, "v.npy"),
    ],
)
def test_known_words_get_their_vectors_from_every_format(tmp_path, write, name):
    write(tmp_path / name)
    vocabulary = build_vocabulary([["the", "film", "zzz"], ["the"]])
    vectors, coverage = load_vectors(str(tmp_path / name), vocabulary, seed=0)
    ids = vocabulary.ids
    np.testing.assert_allclose(vectors[ids["the"]], VECTORS["the"], rtol=1e-6)
    np.testing.assert_allclose(vectors[ids["film"]], VECTORS["film"], rtol=1e-6)
    assert coverage == pytest.approx(2 / 3)
    assert vectors[PAD].abs().sum() == 0
    assert vectors[ids["zzz"]].abs().max() <= 0.25 and vectors[ids["zzz"]].abs().sum() > 0


def test_unknown_words_are_uniform_and_seeded():
    vocabulary = build_vocabulary([[f"w{i}" for i in range(2000)]])
    vectors, coverage = load_vectors("random:10", vocabulary, seed=4)
    values = vectors[2:].numpy()
    assert coverage == 0 and np.abs(values).max() <= 0.25
    np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [-0.125, 0, 0.125], atol=0.01)
    assert np.array_equal(values, load_vectors("random:10", vocabulary, seed=4)[0][2:].numpy())
    assert not np.array_equal(values, load_vectors("random:10", vocabulary, seed=5)[0][2:].numpy())


def test_vocabulary_is_by_frequency_and_a_mask_is_unknown():
    vocabulary = build_vocabulary([["b", "a", "b", "[MASK]"], ["c"]], extra=["a", "d"])
    assert vocabulary.words == ("<pad>", "<unk>", "b", "a", "c", "d")
    assert encode(["b", "[MASK]", "never"], vocabulary.ids) == [2, UNKNOWN, UNKNOWN]
    assert encode([], vocabulary.ids) == [UNKNOWN]


def test_frequent_words_are_the_first_of_the_file(tmp_path):
    for write, name in ((write_text, "v.txt"), (write_binary, "v.bin"), (write_npy, "w.npy")):
        write(tmp_path / name)
        assert embeddings.frequent_words(str(tmp_path / name), 2) == ["the", "film"]
        assert embeddings.frequent_words(str(tmp_path / name), 9) == list(VECTORS)
    assert embeddings.frequent_words("random:5", 2) == []


@pytest.fixture
def pieces(tmp_path, monkeypatch):
    """A small BERT whose tokenizer knows whole words and pieces: its source, and the vector of each piece."""
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path)
    folder, _ = pretrained.resolve_model("tiny", [["un film good ##s ##able . !"]])
    model, tokenizer = pretrained.load(folder, 2)
    table = model.get_input_embeddings().weight.detach().numpy()
    return f"pieces:{folder}", {piece: table[number] for piece, number in tokenizer.get_vocab().items()}


def test_a_word_is_the_mean_of_its_pieces(pieces):
    source, table = pieces
    vocabulary = build_vocabulary([["film", "films", "unables", "xyz"]])
    vectors, coverage = load_vectors(source, vocabulary, seed=0)
    ids = vocabulary.ids
    mean = {"film": table["film"], "films": (table["film"] + table["##s"]) / 2}
    mean["unables"] = (table["un"] + table["##able"] + table["##s"]) / 3
    scale = vectors[ids["film"]].numpy()[0] / mean["film"][0]
    for word, expected in mean.items():
        np.testing.assert_allclose(vectors[ids[word]], expected * scale, rtol=1e-5)
    found = np.stack([vectors[ids[word]] for word in mean])
    assert found.std() == pytest.approx(0.25 / 3**0.5, rel=1e-4)  # as U(-0.25, 0.25)
    assert coverage == 3 / 4 and vectors[ids["xyz"]].abs().max() <= 0.25 and vectors[PAD].abs().sum() == 0


def test_whole_words_are_frequent_and_the_weights_are_named(pieces):
    source, _ = pieces
    assert embeddings.frequent_words(source, 9) == ["film", "good", "un"]
    assert embeddings.frequent_words(source, 1) == ["film"]
    assert set(embeddings.digest(source)) == {"vectors/model.safetensors"}


def test_words_of_a_text_file_may_hold_spaces_and_line_separators(tmp_path):
    """As GloVe 840B's ". . ." does, and U+0085, which Python takes for the end of a line."""
    (tmp_path / "v.txt").write_bytes("the 1 2\n. . . 3 4\nx\u0085y 5 6\n\n. 7 8\n".encode())
    vocabulary = build_vocabulary([["the", ".", "x\u0085y", "of"]])
    vectors, coverage = load_vectors(str(tmp_path / "v.txt"), vocabulary, seed=0)
    assert [vectors[vocabulary.ids[word]].tolist() for word in ("the", ".", "x\u0085y")] == [[1, 2], [7, 8], [5, 6]]
    assert coverage == 3 / 4


@pytest.mark.parametrize(
    "text, wanted",
    [
        (b"the 0.1 0.2\nfilm 0.1 oops\n", "line 2: not a word followed by numbers"),
        (b"the 0.1 0.2\nfilm 0.1\n", "line 2: not a word followed by numbers, of which other lines have 2"),
        (b"the 0.1 0.2\nother\n", "line 2: not a word"),
        (b"the\n", "line 1: not a word"),
        (b"the 0.1 0.2\ncaf\xe9 0.1 0.2\n", "line 2: not UTF-8"),
        (b"\x1f\x8b\x08\x00 of gzip", "line 1: not UTF-8 text; a packed file must be unpacked"),
    ],
)
def test_a_malformed_line_of_a_text_file_is_named(tmp_path, text, wanted):
    (tmp_path / "v.txt").write_bytes(text)
    with pytest.raises(EmbeddingError, match=wanted):
        load_vectors(str(tmp_path / "v.txt"), build_vocabulary([["the", "film"]]), seed=0)


def test_errors_say_what_is_wrong(tmp_path):
    vocabulary = build_vocabulary([["the"]])
    with pytest.raises(EmbeddingError, match="no word vectors at"):
        load_vectors(str(tmp_path / "none.txt"), vocabulary, seed=0)
    with pytest.raises(EmbeddingError, match="random:<width>"):
        load_vectors("random:wide", vocabulary, seed=0)
    with pytest.raises(EmbeddingError, match=r"no word vectors at .*the 40 digits of a commit"):
        load_vectors("fse/word2vec-google-news-300@main", vocabulary, seed=0)
    write_binary(tmp_path / "cut.bin")
    (tmp_path / "cut.bin").write_bytes((tmp_path / "cut.bin").read_bytes()[:-6])
    with pytest.raises(EmbeddingError, match="ends early"):
        load_vectors(str(tmp_path / "cut.bin"), vocabulary, seed=0)
    write_text(tmp_path / "v.txt")
    with pytest.raises(EmbeddingError, match="no word of the vocabulary"):
        load_vectors(str(tmp_path / "v.txt"), build_vocabulary([["other"]]), seed=0)


def test_a_source_is_named_by_what_it_holds(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2\n", encoding="utf-8")
    before = embeddings.digest(str(path))
    path.write_text("a 1 3\n", encoding="utf-8")
    assert set(before) == {"vectors/v.txt"} and before != embeddings.digest(str(path))
    assert embeddings.digest("someone/words@" + "a" * 40) == {"vectors/someone/words": "a" * 40}
    assert embeddings.digest("random:8") == {} and len(embeddings.digest("packages")) == 1
