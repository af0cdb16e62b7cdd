"""How a student is trained: the objective (paper section 3.2), AdaDelta and the training loop."""

import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F
from tqdm import tqdm

from distil import metrics, records
from distil.batching import Examples, bucketed_batches, device, send, token_budget_batches
from distil.config import StudentSettings
from distil.student import BiLSTMStudent

PREDICT_TOKENS = 8192
EPSILON = 1e-6  # of AdaDelta
History = list[dict[str, float]]


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    targets: Tensor | None,
    alpha: float,
    *,
    objective: str = "mse",
    temperature: float = 1.0,
) -> Tensor:
    """Return alpha * CE(student, targets) + (1 - alpha) * distance(student, teacher).

    Logits are [B, labels]. The teacher's may be None when alpha is 1. The targets [B] are gold labels
    or, for synthetic examples, the teacher's argmax. The distance ``mse`` is the paper's (section
    3.2): the squared difference, summed over the labels. A mean over labels would slow AdaDelta,
    whose steps depend on the scale of small gradients. ``kl`` is T^2 KL(teacher || student) at
    temperature T (Hinton et al. 2015, section 2).
    """
    if (alpha > 0 and targets is None) or (alpha < 1 and teacher_logits is None):
        missing = "targets" if targets is None else "teacher logits"
        raise ValueError(f"alpha = {alpha} needs {missing}, got None")
    loss = student_logits.new_zeros(())
    if alpha > 0:
        loss = loss + alpha * F.cross_entropy(student_logits, targets)
    if alpha < 1 and objective == "kl":
        both = (student_logits, teacher_logits)
        student, teacher = ((logits / temperature).log_softmax(dim=1) for logits in both)
        soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        loss = loss + (1 - alpha) * (temperature**2 * soft)
    elif alpha < 1:
        distance = F.mse_loss(student_logits, teacher_logits, reduction="sum")
        loss = loss + (1 - alpha) * distance / len(student_logits)
    return loss


class LazyAdadelta(torch.optim.Optimizer):
    """AdaDelta (Zeiler 2012; section 4.2) that pays only for the word vectors in a batch.

    It takes the steps of ``torch.optim.Adadelta``, which refuses sparse gradients. A row without a
    gradient does not move; its running averages only decay, by rho per step, and ``_sparse`` makes
    up for that when the row next has a gradient.
    """

    def __init__(self, params: Iterable[Parameter], lr: float = 1.0, rho: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the current gradients."""
        for group in self.param_groups:
            for parameter in (one for one in group["params"] if one.grad is not None):
                if not (state := self.state[parameter]):
                    averages = {name: torch.zeros_like(parameter) for name in ("square", "delta")}
                    last = parameter.new_zeros(len(parameter))  # step of a row's last gradient
                    state.update(step=0, last=last, **averages)
                state["step"] += 1
                update = _sparse if parameter.grad.is_sparse else _dense
                update(parameter, state, group["lr"], group["rho"])


def _dense(parameter: Parameter, state: dict[str, Any], lr: float, rho: float) -> None:
    square, delta = state["square"], state["delta"]
    square.mul_(rho).addcmul_(parameter.grad, parameter.grad, value=1 - rho)
    change = delta.add(EPSILON).div_(square.add(EPSILON)).sqrt_().mul_(parameter.grad)
    delta.mul_(rho).addcmul_(change, change, value=1 - rho)
    parameter.sub_(change, alpha=lr)


def _sparse(parameter: Parameter, state: dict[str, Any], lr: float, rho: float) -> None:
    gradient = parameter.grad.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    missed = rho ** (state["step"] - 1 - state["last"][rows])[:, None]  # decays not yet applied
    square = state["square"][rows] * missed * rho + (1 - rho) * values**2
    delta = state["delta"][rows] * missed
    change = ((delta + EPSILON) / (square + EPSILON)).sqrt() * values
    state["square"][rows], state["delta"][rows] = square, delta * rho + (1 - rho) * change**2
    state["last"][rows] = state["step"]
    parameter.index_add_(0, rows, change, alpha=-lr)


def predict(student: BiLSTMStudent, examples: Examples) -> np.ndarray:
    """Return the student's logits, float32 [N, labels], in the order of the examples."""
    where = device()
    student.eval().to(where)
    logits = np.empty((len(examples), student.output.out_features), np.float32)
    with torch.inference_mode():
        for rows in token_budget_batches(examples.lengths, PREDICT_TOKENS):
            logits[rows] = student(*examples.inputs(rows, where)).cpu().numpy()
    if not np.isfinite(logits).all():  # after a loss that is not finite, no logit is
        raise ValueError("the student's logits are not finite: check vectors and teacher logits")
    return logits


def hold_out(texts: Sequence[str], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows judge the epochs, and which may not be trained on; both bool [N].

    A share of the whole sentences, which are no part of another text, judges. It is the same for
    every seed. Neither these sentences are trained on, nor a phrase of which every whole sentence
    was drawn: most rows of SST-2 are phrases of other rows, and if rows were drawn alone, phrases
    of one sentence would lie on both sides. For pairs, ``texts`` are the first sentences.
    """
    rows, lengths, wholes = defaultdict(list), defaultdict(set), defaultdict(list)
    for row, text in enumerate(texts):
        rows[words := tuple(text.split())].append(row)
        lengths[words[:2]].add(len(words))  # of the texts that begin with these words
    for words in sorted(rows, key=len, reverse=True):
        if not wholes[words]:  # it is no part of a longer text
            wholes[words].append(words)
            for start in range(len(words)):
                begins = lengths.get(words[start : start + 2], set()) | {1}
                for part in {words[start : start + n] for n in begins} & rows.keys():
                    wholes[part].append(words)
    whole = [words for words in rows if words in wholes[words]]
    drawn = np.random.default_rng(0).random(len(whole)) < share
    held = {words for words, one in zip(whole, drawn, strict=True) if one}
    judge, left_out = np.zeros((2, len(texts)), bool)
    for words, found in rows.items():
        judge[found], left_out[found] = words in held, held.issuperset(wholes[words])
    return judge, left_out


def train_student(
    student: BiLSTMStudent,
    train: Examples,
    judges: Mapping[str, Examples],
    settings: StudentSettings,
    *,
    seed: int,
    checkpoint: Path,
) -> History:
    """Train with AdaDelta, and leave the student at its best epoch.

    The first of ``judges`` says which epoch is best, and when to stop; the others are only scored.
    A stopped run goes on from the checkpoint of its last epoch. The order of the batches and the
    dropout depend on (seed, epoch) alone, so a resumed run takes the same steps.

    Returns one entry per epoch: mean training loss, ``<judge>_accuracy`` of each judge, seconds.
    """
    student.to(device())
    optimizer = LazyAdadelta(student.parameters(), lr=settings.lr, rho=settings.rho)
    parts, decides = {"student": student, "optimizer": optimizer}, f"{next(iter(judges))}_accuracy"
    history, best = _resume(checkpoint, parts)
    steps = -(-len(train) // settings.batch_size)
    bar = tqdm(desc="student", total=settings.epochs * steps, initial=len(history) * steps)
    while len(history) < settings.epochs:
        if 0 < settings.patience <= _epochs_since_best(history, decides):
            break
        began = time.monotonic()
        loss = _epoch(student, train, optimizer, settings, [seed, len(history)], bar)
        scores = {
            f"{name}_accuracy": metrics.evaluate(predict(student, one), one.targets)["accuracy"]
            for name, one in judges.items()
        }
        history.append({"loss": round(loss, 5)} | scores)
        if _epochs_since_best(history, decides) == 0:
            best = {k: v.detach().cpu().clone() for k, v in student.state_dict().items()}
        history[-1]["seconds"] = round(time.monotonic() - began, 1)
        bar.set_postfix(history[-1])
        _save(checkpoint, parts, {"history": history, "best": best})
    bar.close()
    student.load_state_dict(best)
    return history


def _epochs_since_best(history: History, score: str) -> int:
    """Return how many epochs followed the first one with the highest score."""
    scores = [entry[score] for entry in history]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def _epoch(
    student: BiLSTMStudent,
    train: Examples,
    optimizer: torch.optim.Optimizer,
    settings: StudentSettings,
    seed_and_epoch: list[int],
    bar: tqdm,
) -> float:
    where = device()
    student.train()
    torch.manual_seed(1000 * seed_and_epoch[0] + seed_and_epoch[1])
    targets = torch.from_numpy(train.targets.astype(np.int64))
    logits = None if train.teacher_logits is None else torch.from_numpy(train.teacher_logits)
    total = torch.zeros((), dtype=torch.float64, device=where)  # read once per epoch, not per step
    order = np.random.default_rng(seed_and_epoch)
    soft = {"objective": settings.objective, "temperature": settings.temperature}
    batches = list(bucketed_batches(train.lengths, settings.batch_size, rng=order))
    for step, rows in enumerate(batches, start=seed_and_epoch[1] * len(batches)):
        if settings.schedule == "linear":  # after the last epoch the rate would be 0
            share_left = 1 - step / (settings.epochs * len(batches))
            optimizer.param_groups[0]["lr"] = settings.lr * share_left
        optimizer.zero_grad()
        z, target = student(*train.inputs(rows, where)), send(targets[rows], where)
        of_teacher = None if logits is None else send(logits[rows], where)
        loss = distillation_loss(z, of_teacher, target, settings.alpha, **soft)
        loss.backward()
        optimizer.step()
        total += loss.detach().double() * len(rows)
        bar.update()
    return total.item() / len(train)


def _save(path: Path, parts: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint after its sha256, since torch does not check every bit that it loads."""
    buffer = io.BytesIO()
    torch.save(state | {name: part.state_dict() for name, part in parts.items()}, buffer)
    records.write_whole(path, hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())


def _resume(path: Path, parts: dict[str, Any]) -> tuple[History, dict[str, Tensor]]:
    """Load a whole checkpoint into ``parts``, and return its history and best weights."""
    if not path.exists():
        return [], {}
    raw = memoryview(path.read_bytes())
    if hashlib.sha256(raw[32:]).digest() != raw[:32]:
        print(f"{path.name} is damaged: training starts again from the first epoch")
        return [], {}
    state = torch.load(io.BytesIO(raw[32:]), weights_only=True, map_location=device())
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["history"], state["best"]
