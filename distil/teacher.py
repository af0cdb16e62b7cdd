"""Fine-tuning the teacher (paper section 4.2), and its logits for any number of sentences."""

import contextlib
import functools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, DatasetDict
from tqdm import tqdm

from distil import metrics, pretrained, ranks, sealed
from distil.batching import device, token_budget_batches
from distil.config import TeacherConfig
from distil.data import digest
from distil.fastbert import FastBert, fits
from distil.paths import code_digest
from distil.pretrained import SeparatePairs, Teacher, Texts, Tokenizer
from distil.tasks import Task

OUTCOME = "outcome.json"  # beside a fine-tuned network: how it came about


@functools.cache
def bf16_is_faster(device: torch.device) -> bool:
    """Whether bfloat16 matrix products beat float32 ones here: tried once on a MiniLM-sized product, not assumed."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if ranks.world_size() > 1:
        return False  # each would measure for itself, and two that came out otherwise would not fit together
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(1024, 384).to(dtype), torch.randn(384, 1536).to(dtype)
        a @ b
        runs = []
        for _ in range(20):  # the fastest of many: what else runs here must not decide it
            start = time.perf_counter()
            a @ b
            runs.append(time.perf_counter() - start)
        seconds[dtype] = min(runs)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def precision() -> str:
    """The number format of training and labelling on this machine, for records."""
    return "bfloat16" if bf16_is_faster(device()) else "float32"


def fine_tune(
    splits: DatasetDict, spec: Task, config: TeacherConfig, *, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Fine-tune once per learning rate and leave the best on dev in ``folder`` (a ``save_pretrained`` folder).

    Adam with linear warm-up and decay, as Devlin et al. (2019); batches are grouped by length, the best evaluation on dev is
    kept. A run that was stopped goes on from its last checkpoint, and one that is done is not done again, if config, seed, data,
    code and versions are the same and nothing is damaged.

    Returns:
        One entry per evaluation: learning rate, epoch, dev accuracy, seconds since the evaluation before.

    Raises:
        ModelError: checkpoints of another config, seed, data or code are in the way.
    """
    identity = _identity(config, seed, splits, spec)
    works = [folder.with_name(f"{folder.name}-lr{learning_rate}") for learning_rate in config.learning_rates]
    if not _is_done(folder, identity):
        outcomes = [
            _tune(splits, spec, config, learning_rate, seed, work, identity)
            for learning_rate, work in zip(config.learning_rates, works, strict=True)
        ]
        if ranks.rank() == 0:
            _keep_best(folder, works, outcomes, identity)
        ranks.wait()
    if ranks.rank() == 0:  # the rates' own folders, also those that a run which was killed here has left
        for work in works:
            shutil.rmtree(work, ignore_errors=True)
    return json.loads((folder / OUTCOME).read_text(encoding="utf-8"))["history"]


def _identity(config: TeacherConfig, seed: int, splits: DatasetDict, spec: Task) -> str:
    """What fine-tuning depends on: config, seed, data, the pretrained weights, number format, versions and code."""
    name, revision = pretrained.resolve_model(config.model, pretrained.sentences(splits["train"], spec))
    data = {name: digest(rows) for name, rows in splits.items() if name in ("train", "dev")}
    code = code_digest("teacher", "pretrained", "words", "metrics", "batching")
    versions = [torch.__version__, transformers.__version__, code]
    return json.dumps([repr(config), seed, data, pretrained.weights(name, revision), precision(), versions])


def _is_done(folder: Path, identity: str) -> bool:
    """Whether a fine-tuned teacher of this identity is in ``folder``, with every byte as it was written."""
    if not (folder / OUTCOME).exists() or sealed.broken(folder):
        return False
    return json.loads((folder / OUTCOME).read_text(encoding="utf-8"))["identity"] == identity


def _tune(
    splits: DatasetDict, spec: Task, config: TeacherConfig, learning_rate: float, seed: int, work: Path, identity: str
) -> dict[str, Any]:
    """Fine-tune at one learning rate: the best network and its outcome go to ``work/best``, checkpoints go."""
    if ranks.rank() == 0:
        _clear(work, identity)
    ranks.wait()
    best = work / "best"
    if not best.exists():
        trainer = _trainer(splits, spec, config, learning_rate, seed, work)
        trainer.train(resume_from_checkpoint=transformers.trainer_utils.get_last_checkpoint(str(work)))
        if ranks.rank() == 0:
            _keep(trainer, learning_rate, work, best)
        ranks.wait()
    return json.loads((best / OUTCOME).read_text(encoding="utf-8"))


def _keep(trainer: transformers.Trainer, learning_rate: float, work: Path, best: Path) -> None:
    part = best.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    pretrained.save(trainer.model, trainer.processing_class, part)
    history = [
        {
            "lr": learning_rate,
            "epoch": round(entry["epoch"], 2),
            "dev_accuracy": entry["eval_accuracy"],
            "seconds": entry["seconds"],
        }
        for entry in trainer.state.log_history
        if "eval_accuracy" in entry
    ]
    result = {"best": trainer.state.best_metric, "history": history}
    (part / OUTCOME).write_text(json.dumps(result), encoding="utf-8")
    sealed.seal(part)
    part.rename(best)
    for folder in work.glob("checkpoint-*"):  # 4 GB each with BERT_LARGE, and there are several rates
        shutil.rmtree(folder)


def _keep_best(folder: Path, works: list[Path], outcomes: list[dict[str, Any]], identity: str) -> None:
    """The network of the best rate goes to ``folder``, with the history of all rates."""
    chosen = works[max(range(len(works)), key=lambda i: outcomes[i]["best"])] / "best"
    history = [entry for outcome in outcomes for entry in outcome["history"]]
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(chosen, part)  # a copy: a process that is killed here finds all rates done
    (part / OUTCOME).write_text(json.dumps({"identity": identity, "history": history}), encoding="utf-8")
    sealed.seal(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _trainer(
    splits: DatasetDict, spec: Task, config: TeacherConfig, learning_rate: float, seed: int, work: Path
) -> transformers.Trainer:
    texts = {name: pretrained.sentences(splits[name], spec) for name in ("train", "dev")}
    name, revision = pretrained.resolve_model(config.model, texts["train"])
    transformers.set_seed(seed)  # after what may draw weights of its own, where the model is not there yet
    model, tokenizer = pretrained.load(name, len(spec.labels), revision, config.pair_input)
    separate = isinstance(model, SeparatePairs)

    def encode(name: str) -> Dataset:
        columns = pretrained.encode(tokenizer, texts[name], separate=separate, max_length=config.max_length)
        return Dataset.from_dict(columns | {"label": splits[name]["label"][:]})

    steps = -(-len(splits["train"]) // config.batch_size)
    every = -(-steps // config.evals_per_epoch)  # the last one at the end of the pass, not beside it
    arguments = transformers.TrainingArguments(
        output_dir=str(work),
        learning_rate=learning_rate,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=max(1, config.batch_size // ranks.world_size()),
        per_device_eval_batch_size=64,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        optim="adamw_torch_fused",
        bf16=bf16_is_faster(device()),
        use_cpu=device().type == "cpu",
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=every,
        save_steps=every,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,  # one bar of ours instead
        seed=seed,
        data_seed=seed,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=encode("train"),
        eval_dataset=encode("dev"),
        processing_class=tokenizer,
        data_collator=functools.partial(pretrained.collate, tokenizer),
        compute_metrics=lambda result: metrics.evaluate(result.predictions, result.label_ids),
        callbacks=[_Progress()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


class _Progress(transformers.TrainerCallback):
    """One bar with an estimate of the time left; the Trainer's own notebook table is off."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.since = time.monotonic()
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="fine-tuning", unit="batch", mininterval=2
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        self.bar.set_postfix(dev=f"{metrics['eval_accuracy']:.4f}")
        now = time.monotonic()
        state.log_history[-1]["seconds"] = round(now - self.since, 1)  # so that they outlive a stop
        self.since = now

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        ranks.wait()  # every process has written its part
        if ranks.rank() == 0:
            sealed.seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            # Not by the Trainer, which would throw the older ones away before this one is under a seal.
            transformers.trainer_utils.rotate_checkpoints(args.output_dir, 1, state.best_model_checkpoint)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


def _clear(work: Path, identity: str) -> None:
    """Leave in ``work`` what is whole; a checkpoint that was cut short or damaged is removed, and damage is said.

    Raises:
        ModelError: what is there has another identity.
    """
    mark = work / "identity.json"
    found = [folder for folder in [*work.glob("checkpoint-*"), *work.glob("best")] if folder.is_dir()]
    if found and (not mark.exists() or mark.read_text(encoding="utf-8", errors="replace") != identity):
        raise pretrained.ModelError(
            f"{work.parent.name}/{work.name} holds checkpoints of another config, seed, data or version of the code; to go on "
            "from them would mix the two. Delete that folder to start anew, or go back to what they were made with."
        )
    if not found:  # written once, before the first checkpoint: never while there is something to lose
        work.mkdir(parents=True, exist_ok=True)
        mark.write_text(identity, encoding="utf-8")
    for folder in found:
        if wrong := sealed.broken(folder):
            if wrong != [sealed.SEAL]:  # a checkpoint without a seal was being written when the run stopped
                print(f"{work.name}/{folder.name}: {', '.join(wrong)} damaged; not used", flush=True)
            shutil.rmtree(folder)
    for folder in work.glob("checkpoint-*"):  # the best so far is what training would end with
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        if (best := state["best_global_step"]) and not (work / f"checkpoint-{best}").is_dir():
            print(f"{work.name}/{folder.name}: not used without checkpoint-{best}, the best before it", flush=True)
            shutil.rmtree(folder)


@contextlib.contextmanager
def _inference(model: Teacher) -> Iterator[torch.device]:
    where = device()
    model.eval().to(where, dtype=torch.bfloat16 if bf16_is_faster(where) else torch.float32)
    with torch.inference_mode():
        yield where


def predict_logits(
    model: Teacher,
    tokenizer: Tokenizer,
    texts: Texts,
    *,
    token_budget: int,
    max_length: int = 128,
    progress: bool = True,
) -> np.ndarray:
    """The teacher's logits, float32 [N, labels], in the order of ``texts``.

    Examples are sorted by length and cut into batches of at most ``token_budget`` tokens, one that occurs twice is sent once;
    weights are cast to bfloat16 where that is faster (the model stays cast), and laid out for it on a CPU (``FastBert``).

    Args:
        texts: one list of N sentences, or two for pairs: fed jointly as ``[CLS] a [SEP] b [SEP]``, or to a ``SeparatePairs``
            one after the other.
    """
    examples = list(zip(*texts, strict=True))
    numbers = {example: number for number, example in enumerate(dict.fromkeys(examples))}
    unique = list(zip(*numbers, strict=True))
    encoded = pretrained.encode(tokenizer, unique, separate=isinstance(model, SeparatePairs), max_length=max_length)
    lengths = np.max([[len(row) for row in encoded[name]] for name in encoded if name.startswith("input_ids")], axis=0)
    logits = np.empty((len(lengths), model.config.num_labels), np.float32)
    bar = tqdm(total=len(lengths), desc="labelling", unit="example", mininterval=2, disable=not progress)
    with _inference(model) as where:
        network = FastBert(model) if fits(model) else model
        for rows in token_budget_batches(lengths, token_budget):
            batch = pretrained.collate(tokenizer, [{name: values[i] for name, values in encoded.items()} for i in rows])
            inputs = {name: tensor.to(where) for name, tensor in batch.items()}
            logits[rows] = network(**inputs).logits.float().cpu().numpy()
            bar.update(len(rows))
    bar.close()
    return logits[[numbers[example] for example in examples]]
