"""A matrix of broken and odd GLUE folders: each is used as it stands, or refused in one line with file, line and what to do."""

import gzip
import os

import numpy as np
import pytest
import torch

from distil import augment, data, paths
from distil.batching import Column, Examples
from distil.data import DataError, load_task
from distil.student import BiLSTMStudent
from distil.tasks import MNLI, QQP, SST2
from distil.train import distillation_loss
from distil.vocabulary import build_vocabulary

OK = None
HEAD = b"sentence\tlabel\n"
GOOD = HEAD + b"a fine film\t1\na dull film\t0\n"
PAIR_HEAD = b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
NLI_HEAD = b"index\tsentence1\tsentence2\tgold_label\n"

SINGLE = {  # name -> bytes of train.tsv, and what the error says (OK: it loads)
    "as it should be": (GOOD, OK),
    "no line feed at the end": (GOOD.rstrip(b"\n"), OK),
    "blank lines": (HEAD + b"\na\t1\n\n\nb\t0\n\n", OK),
    "CRLF": (GOOD.replace(b"\n", b"\r\n"), OK),
    "BOM": (b"\xef\xbb\xbf" + GOOD, OK),
    "BOM and CRLF": (b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"), OK),
    "columns the other way round": (b"label\tsentence\n1\ta fine film\n0\ta dull film\n", OK),
    "an extra column": (b"id\tsentence\tlabel\n7\ta\t1\n8\tb\t0\n", OK),
    "an extra column at the end": (b"sentence\tlabel\tnote\na\t1\tx\nb\t0\ty\n", OK),
    "a short row that has all we need": (b"sentence\tlabel\tnote\na\t1\nb\t0\ty\n", OK),
    "duplicate rows": (GOOD + b"a fine film\t1\n", OK),
    "one text with both labels": (GOOD + b"a fine film\t0\n", OK),
    "quotes that are text": (HEAD + b'"so-called" film\t1\n"\t0\n', OK),
    "a quote that is not closed": (HEAD + b'"never closed\t1\nb\t0\n', OK),
    "backslashes": (HEAD + b"a\\tb \\\\ c\t1\nb\t0\n", OK),
    "an empty sentence": (HEAD + b"\t1\nb\t0\n", OK),
    "a sentence of spaces": (HEAD + b"   \t1\nb\t0\n", OK),
    "only punctuation": (HEAD + b"...!?\t1\n--\t0\n", OK),
    "only digits": (HEAD + b"1 2 3\t1\n4\t0\n", OK),
    "emoji": (HEAD + "wow \U0001f600\U0001f468‍\U0001f469\t1\nb\t0\n".encode(), OK),
    "right to left": (HEAD + "فيلم جميل\t1\nסרט\t0\n".encode(), OK),
    "combining marks": (HEAD + "é e̸̴\t1\nb\t0\n".encode(), OK),
    "Chinese": (HEAD + "好电影\t1\n坏电影\t0\n".encode(), OK),
    "NEL and line separators": (HEAD + "a b\u0085c\t1\nd\t0\n".encode(), OK),
    "NUL": (HEAD + b"a\x00b\t1\nc\t0\n", OK),
    "control characters": (HEAD + b"a\x07\x1b[31mb\t1\nc\t0\n", OK),
    "a carriage return in a sentence": (HEAD + b"a\rb\t1\nc\t0\n", OK),
    "a form feed and a vertical tab": (HEAD + b"a\x0cb\x0bc\t1\nd\t0\n", OK),
    "markup": (HEAD + b"<br /> &amp; <script>x</script>\t1\nc\t0\n", OK),
    "the mask itself": (HEAD + b"a [MASK] film\t1\n[CLS] b [SEP]\t0\n", OK),
    "special words of the student": (HEAD + b"<pad> <unk>\t1\nb\t0\n", OK),
    "10,000 words": (HEAD + b"film " * 10_000 + b"\t1\nb\t0\n", OK),
    "one word of 100,000 letters": (HEAD + b"x" * 100_000 + b"\t1\nb\t0\n", OK),
    "one class only": (HEAD + b"a\t1\nb\t1\n", OK),
    "one row": (HEAD + b"a\t1\n", OK),
    "no bytes": (b"", r"train\.tsv, line 1: no column 'sentence'"),
    "the header alone": (HEAD, r"train\.tsv: no rows"),
    "the header and blank lines": (HEAD + b"\n \n\t\n", r"train\.tsv: no rows"),
    "no header": (b"a\t1\nb\t0\n", r"line 1: no column 'sentence'; SST-2 needs"),
    "no sentence column": (b"text\tlabel\na\t1\n", r"line 1: no column 'sentence'"),
    "no label column": (b"sentence\ta\na\t1\n", r"line 1: no column 'label'"),
    "a header in capitals": (b"Sentence\tLabel\na\t1\n", r"line 1: no column 'sentence'"),
    "commas": (b"sentence,label\na,1\n", r"line 1: no column 'sentence'"),
    "carriage returns alone": (GOOD.replace(b"\n", b"\r"), r"line 1: no column 'label'|no rows"),
    "a missing tab": (HEAD + b"a 1\nb\t0\n", r"line 2: 1 columns, the header has 2; is a tab missing"),
    "a tab in a sentence": (HEAD + b"a\tb\t1\n", r"line 2: 3 columns, the header has 2; is a tab too many"),
    "a label out of range": (HEAD + b"a\t1\nb\t2\n", r"line 3, column 'label': '2' is not one of"),
    "a negative label": (HEAD + b"a\t-1\n", r"line 2, column 'label': '-1'"),
    "a float as label": (HEAD + b"a\t1.0\n", r"line 2, column 'label': '1\.0'"),
    "a blank label": (HEAD + b"a\t\n", r"line 2, column 'label': ''"),
    "a label with a space": (HEAD + b"a\t1 \n", r"line 2, column 'label': '1 '"),
    "a label in words": (HEAD + b"a\tpositive\n", r"line 2, column 'label': 'positive'"),
    "a full-width digit as label": (HEAD + "a\t１\n".encode(), r"line 2, column 'label'"),
    "Latin-1": (GOOD + b"caf\xe9\t1\n", r"line 4: not UTF-8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), r"line 1: not UTF-8"),
    "a cut character": (GOOD + "é".encode()[:1], r"line 4: not UTF-8"),
    "a lone surrogate": (HEAD + b"\xed\xa0\x80\t1\n", r"line 2: not UTF-8"),
    "an overlong encoding": (HEAD + b"\xc0\xaf\t1\n", r"line 2: not UTF-8"),
    "gzip under the name of a tsv": (gzip.compress(GOOD), r"line 1: not UTF-8"),
    "random bytes": (bytes(np.random.default_rng(0).integers(128, 256, 400, dtype=np.uint8)), r"line 1: not UTF-8"),
}
PAIRS = {
    "as it should be": (QQP, PAIR_HEAD + b"0\t1\t2\ta ?\tb ?\t1\n1\t3\t4\tc ?\td ?\t0\n", OK),
    "duplicate ids": (QQP, PAIR_HEAD + b"0\t1\t2\ta ?\tb ?\t1\n0\t1\t2\tc ?\td ?\t0\n", OK),
    "the same question twice": (QQP, PAIR_HEAD + b"0\t1\t2\ta ?\ta ?\t1\n1\t1\t2\tc ?\tc ?\t0\n", OK),
    "an empty second question": (QQP, PAIR_HEAD + b"0\t1\t2\ta ?\t\t1\n1\t1\t2\tc\td\t0\n", OK),
    "both questions empty": (QQP, PAIR_HEAD + b"0\t1\t2\t\t\t1\n1\t1\t2\tc\td\t0\n", OK),
    "a few short rows": (QQP, PAIR_HEAD + b"0\t1\t2\ta ?\tb ?\t1\n1\t2\n", OK),
    "no second question": (QQP, b"question1\tis_duplicate\na\t1\n", "no column 'question2'"),
    "labels as words": (MNLI, NLI_HEAD + b"0\ta\tb\tentailment\n1\tc\td\tneutral\n2\te\tf\tcontradiction\n", OK),
    "labels as numbers": (MNLI, NLI_HEAD + b"0\ta\tb\t2\n", r"line 2, column 'gold_label': '2' is not one of"),
    "SNLI's dash": (MNLI, NLI_HEAD + b"0\ta\tb\t-\n", r"line 2, column 'gold_label': '-'"),
    "labels in capitals": (MNLI, NLI_HEAD + b"0\ta\tb\tNEUTRAL\n", r"column 'gold_label': 'NEUTRAL'"),
}


def folder_with(tmp_path, spec, train):
    home = tmp_path / "glue" / spec.folder
    home.mkdir(parents=True)
    for split in spec.splits.values():
        (home / split.file).write_bytes(train)
    return str(tmp_path / "glue")


def goes_through(spec, folder, tmp_path, monkeypatch):
    """All that training does to the sentences: words, transfer set, ids, one step of the student."""
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path / "artifacts")
    home = paths.artifact("p", spec.name, "data")
    prepared = data.prepare(load_task(spec.name, folder), spec, home, max_train=0, max_dev=0, seed=0)
    again = data.load_prepared("p", spec.name)
    assert {name: data.digest(rows) for name, rows in again.items()} == {n: data.digest(r) for n, r in prepared.items()}
    sentences = [[text.split() for text in again["train"][column]] for column in spec.columns]
    tags = [[["T"] * len(words) for words in column] for column in sentences]
    samples = list(augment.transfer_set(sentences, tags, n_iter=3, p_mask=0.1, p_pos=0.1, p_ng=0.25, seed=0))
    vocabulary = build_vocabulary(words for column in sentences for words in column)
    columns = tuple(Column.of(column, vocabulary.ids) for column in zip(*(s.sentences for s in samples), strict=True))
    examples = Examples(columns, np.zeros(len(samples), np.int64))
    student = BiLSTMStudent(
        torch.randn(len(vocabulary), 4), hidden_size=3, fc_size=3, num_labels=len(spec.labels), pair=spec.pair,
        channels="tuned", pooling="last", dropout=0.0,
    )  # fmt: skip
    short = np.flatnonzero(examples.lengths <= 1000)
    logits = student(*examples.inputs(short, torch.device("cpu")))
    distillation_loss(logits, torch.zeros_like(logits), None, 0.0).backward()
    assert torch.isfinite(student.fc.weight.grad).all()


def check(spec, train, wanted, tmp_path, monkeypatch):
    folder = folder_with(tmp_path, spec, train)
    if wanted is OK:
        goes_through(spec, folder, tmp_path, monkeypatch)
        return
    with pytest.raises(DataError, match=wanted) as caught:
        load_task(spec.name, folder)
    assert "\n" not in str(caught.value) and "train.tsv" in str(caught.value)


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_sentence_file(name, tmp_path, monkeypatch):
    check(SST2, *SINGLE[name], tmp_path, monkeypatch)


@pytest.mark.parametrize("name", PAIRS)
def test_a_file_of_pairs(name, tmp_path, monkeypatch):
    check(*PAIRS[name], tmp_path, monkeypatch)


def test_the_matrix_is_as_large_as_promised():
    assert len(SINGLE) + len(PAIRS) >= 60


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "SST-2" / "train.tsv").mkdir(parents=True)
    with pytest.raises(DataError, match=r"missing file .*train\.tsv"):
        load_task("sst2", str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    folder = folder_with(tmp_path, SST2, GOOD)
    (tmp_path / "glue" / "SST-2" / "train.tsv").chmod(0)
    with pytest.raises(DataError, match=r"cannot read .*train\.tsv"):
        load_task("sst2", folder)


def test_a_read_that_fails(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, SST2, GOOD)

    def fails(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", fails)
    with pytest.raises(DataError, match=r"cannot read .*train\.tsv.*Permission denied"):
        load_task("sst2", folder)
