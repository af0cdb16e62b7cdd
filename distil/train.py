"""The objective (paper section 3.2) and the one training loop of every student, baseline or distilled."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from distil import metrics
from distil.batching import Examples, bucketed_batches, device, token_budget_batches
from distil.config import StudentConfig
from distil.optim import LazyAdadelta
from distil.paths import code_digest
from distil.student import BiLSTMStudent

PREDICT_TOKENS = 8192


class CheckpointError(RuntimeError):
    """A checkpoint belongs to another run; the message says what to do."""


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    targets: Tensor | None,
    alpha: float,
    *,
    objective: str = "mse",
    temperature: float = 1.0,
) -> Tensor:
    """alpha * CE(student, targets) + (1 - alpha) * distance(student logits, teacher logits); both are minimised.

    A much-read summary prints a minus before the distillation term; that sign belongs to the cross-entropy alone.

    Args:
        student_logits, teacher_logits: [B, labels]; the teacher's may be None when alpha is 1.
        targets: [B], gold labels or, for synthetic examples, the teacher's argmax; may be None when alpha is 0.
        objective: the distance. ``mse``: the paper's (section 3.2), a mean over labels too. ``kl``: T^2 KL(teacher || student),
            both softened by ``temperature`` T; the factor keeps the gradient's size (Hinton et al. 2015, section 2).

    Raises:
        ValueError: a term has weight but no input.
    """
    if (alpha > 0 and targets is None) or (alpha < 1 and teacher_logits is None):
        raise ValueError(f"alpha = {alpha} needs {'targets' if targets is None else 'teacher logits'}, got None")
    loss = student_logits.new_zeros(())
    if alpha > 0:
        loss = loss + alpha * F.cross_entropy(student_logits, targets)
    if alpha < 1:
        distance = (
            _soft_kl(student_logits, teacher_logits, temperature)
            if objective == "kl"
            else F.mse_loss(student_logits, teacher_logits)
        )
        loss = loss + (1 - alpha) * distance
    return loss


def _soft_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    student, teacher = ((logits / temperature).log_softmax(dim=1) for logits in (student_logits, teacher_logits))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def predict(student: BiLSTMStudent, examples: Examples) -> np.ndarray:
    """The student's logits, float32 [N, labels], in the order of the examples."""
    where = device()
    student.eval().to(where)
    logits = np.empty((len(examples), student.output.out_features), np.float32)
    with torch.inference_mode():
        for rows in token_budget_batches(examples.lengths, PREDICT_TOKENS):
            logits[rows] = student(*examples.inputs(rows, where)).cpu().numpy()
    return logits


def train_student(
    student: BiLSTMStudent,
    train: Examples,
    dev: Examples,
    config: StudentConfig,
    *,
    seed: int,
    checkpoint: Path,
    held_out: Examples | None = None,
) -> tuple[list[dict[str, float]], dict[str, dict[str, Tensor]]]:
    """Train with AdaDelta and leave the student at the epoch that was best on dev.

    With ``held_out``, training examples that are not trained on, the epoch that is best there is kept too: its score on dev is
    one that dev did not choose.

    After every epoch a checkpoint is written; a run that was stopped goes on from it. The order of the batches and the
    dropout depend on (seed, epoch) alone, so a resumed run takes the same steps.

    Returns:
        One entry an epoch (mean training loss, dev accuracy, held-out accuracy, seconds), and the best weights by ``dev``,
        ``held_out``.

    Raises:
        CheckpointError: ``checkpoint`` was written by another config, seed, data or version of the code.
    """
    where = device()
    student.to(where)
    trainable = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = LazyAdadelta(trainable, lr=config.lr, rho=config.rho)
    identity = _identity(student, [train, dev, held_out], config, seed)
    state = _load_checkpoint(checkpoint, identity, student, optimizer)
    history, best = state["history"], state["best"]
    judges = {"dev": dev} | ({} if held_out is None else {"held_out": held_out})
    steps = -(-len(train) // config.batch_size)
    bar = tqdm(total=config.epochs * steps, initial=len(history) * steps, desc="student", unit="batch", mininterval=2)
    while len(history) < config.epochs and not _given_up(history, config.patience):
        epoch, began = len(history), time.monotonic()
        loss = _epoch(student, train, optimizer, config, seed=seed, epoch=epoch, tick=bar.update)
        entry = {"loss": round(loss, 5)}
        for name, examples in judges.items():
            key = f"{name}_accuracy"
            entry[key] = metrics.evaluate(predict(student, examples), examples.targets)["accuracy"]
            if entry[key] > max((earlier[key] for earlier in history), default=-1):
                best[name] = {part: tensor.detach().cpu().clone() for part, tensor in student.state_dict().items()}
        history.append(entry | {"seconds": round(time.monotonic() - began, 1)})
        bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.4f}", dev=f"{entry['dev_accuracy']:.4f}")
        _save_checkpoint(checkpoint, identity, student, optimizer, history, best)
    bar.close()
    student.load_state_dict(best["dev"])
    return history, best


def _given_up(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last ``patience`` epochs brought no better dev accuracy; 0 never gives up."""
    scores = [entry["dev_accuracy"] for entry in history]
    return 0 < patience <= len(scores) - 1 - int(np.argmax(scores)) if scores else False


def _identity(student: nn.Module, parts: Sequence[Examples | None], config: StudentConfig, seed: int) -> str:
    """What a checkpoint must agree with to be resumed: config, seed, first weights (so word vectors too), all examples, code."""
    sha = hashlib.sha256()
    for part in parts:
        columns = [array for column in part.columns for array in (column.flat, column.offsets)] if part else []
        for array in [*columns, part.targets, part.teacher_logits] if part else [None]:
            sha.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    for tensor in student.state_dict().values():
        sha.update(tensor.detach().cpu().numpy().tobytes())
    code = [torch.__version__, code_digest("train", "student", "optim", "batching")]
    return json.dumps([repr(config), seed, sha.hexdigest(), code])


def _epoch(
    student: nn.Module,
    train: Examples,
    optimizer: torch.optim.Optimizer,
    config: StudentConfig,
    *,
    seed: int,
    epoch: int,
    tick: Callable[[int], object],
) -> float:
    where = device()
    student.train()
    torch.manual_seed(1000 * seed + epoch)
    targets = torch.from_numpy(train.targets.astype(np.int64))
    logits = None if train.teacher_logits is None else torch.from_numpy(train.teacher_logits)
    total = 0.0
    for rows in bucketed_batches(train.lengths, config.batch_size, rng=np.random.default_rng([seed, epoch])):
        optimizer.zero_grad()
        loss = distillation_loss(
            student(*train.inputs(rows, where)),
            None if logits is None else logits[rows].to(where),
            targets[rows].to(where),
            config.alpha,
            objective=config.objective,
            temperature=config.temperature,
        )
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        tick(1)
    return total / len(train)


def _save_checkpoint(
    path: Path,
    identity: str,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    best: dict[str, dict[str, Tensor]],
) -> None:
    """The file begins with the sha256 of what follows: not every bit of torch's own format is checked when it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, buffer = path.with_suffix(".part"), io.BytesIO()
    state = {"identity": identity, "student": student.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"history": history, "best": best}, buffer)
    with part.open("wb") as stream:
        stream.write(hashlib.sha256(buffer.getbuffer()).digest())
        stream.write(buffer.getbuffer())
    part.replace(path)


def _load_checkpoint(path: Path, identity: str, student: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    if not path.exists():
        return {"history": [], "best": {}}
    raw = memoryview(path.read_bytes())
    if hashlib.sha256(raw[32:]).digest() != raw[:32]:
        raise CheckpointError(f"{path.name} in {path.parent.name} is damaged: delete it to train anew")
    state = torch.load(io.BytesIO(raw[32:]), weights_only=True, map_location=device())
    if state["identity"] != identity:
        raise CheckpointError(
            f"{path.name} in {path.parent.name} was written by another config, seed, data or version of the code; to go on from "
            "it would mix the two. Delete it to start anew, or go back to what it was written with."
        )
    student.load_state_dict(state["student"])
    optimizer.load_state_dict(state["optimizer"])
    return {"history": state["history"], "best": state["best"]}
