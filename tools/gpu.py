"""Tries the project on a GPU, without a network, in under 8 minutes: ``python tools/gpu.py``.

Chapters 01 to 05 run in a folder of their own, on the toy set or on a slice of GLUE_DIR's SST-2: a
small teacher, a transfer set, the paper's student, and Table 2 with BERT_LARGE's shape. A BERT_LARGE
with random weights then labels the transfer set. Logits of this device and of the CPU must agree.
Writes ``results/gpu.json``, which names the device. ``--small`` takes minutes on a CPU.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import papermill
import torch
import transformers

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
PUBLISHED = ((1024, 24, 16, 4096), (384, 6, 12, 1536))
LARGE, MINILM = (dict(zip(SIZES, n, strict=True)) for n in PUBLISHED)
MODELS = ["bert-large", "bert-base", "elmo", "minilm", "student", "student-fast", "student-bf16"]
FULL = {  # what differs from the smoke profile
    "transfer-set": {"n_iter": 200, "token_budget": 16384},
    "student": {"vectors": "random:300", "hidden_size": 300, "fc_size": 400, "dropout": 0.1}
    | {"batch_size": 50, "epochs": 3},
    "speed": {"sentences": 8192, "single_sentences": 50, "batch_size": 512}
    | {"batch_sizes": [1, 64, 512], "repeats": 3, "models": [*MODELS, "student-int8"]},
}
SMALL = {"speed": {"models": ["minilm", "student", "student-fast", "student-onnx-int8"]}}
NEAR = 1e-3  # logits, in float32


def chapters(changes: dict, home: Path) -> dict:
    """Run chapters 01 to 05 and return the record of each."""
    from distil import config, records, run

    found = {}
    for stage in list(records.NOTEBOOKS)[:5]:
        task, arm = ("", "") if stage == "speed" else ("sst2", config.MAIN)
        step = records.Step(stage, "smoke", task, "" if stage == "data" else arm)
        names = run.parameters(step) | changes.get(stage, {})
        if stage == "data" and os.environ.get("GLUE_DIR"):
            names |= {"source": os.environ["GLUE_DIR"], "max_train": 2000, "max_dev": 500}
        began, copy = time.monotonic(), str(home / f"{stage}.ipynb")
        options = {"cwd": config.ROOT, "kernel_name": "python3", "progress_bar": False}
        options["extra_arguments"] = ["--log-level=CRITICAL"]
        papermill.execute_notebook(str(step.notebook), copy, names, **options)
        found[stage] = step.read() | {"wall": round(time.monotonic() - began, 1)}
        print(f"{step.notebook.stem}: {found[stage]['wall']} s", flush=True)
    return found


def labelling(shape: dict, rows: int) -> dict:
    """Label sentences of the transfer set with a BERT of that shape and random weights."""
    from distil import batching, config, records, teacher, transfer

    step = records.Step("transfer-set", "smoke", "sst2", config.MAIN)
    texts = list(transfer.sentences(transfer.read(step.files()), "sentence1"))[:rows]
    tokenizer = teacher.load(step.sibling("teacher").files(), 2)[1]
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**shape)).eval()
    few, logits = [texts[:32]], []
    for where in (batching.device(), torch.device("cpu")):
        with mock.patch.object(teacher, "device", lambda where=where: where):
            options = {"token_budget": 16384, "precision": "float32", "progress": False}
            logits.append(teacher.predict_logits(model, tokenizer, few, **options))
    options["precision"] = teacher.number_format("auto")
    teacher.predict_logits(model, tokenizer, few, **options)  # warms up
    began = time.perf_counter()
    teacher.predict_logits(model, tokenizer, [texts], **options)
    rate = len(texts) / (time.perf_counter() - began)
    apart = {"furthest_from_cpu": float(np.abs(logits[0] - logits[1]).max())}
    apart["spread_of_logits"] = float(np.ptp(logits[1]))
    found = {"sentences": len(texts), "sentences_per_second": round(rate, 1)}
    return found | apart | {"precision": options["precision"]}


def student_apart() -> float:
    """Return the furthest that a logit of the student is from the same on the CPU, on dev."""
    from distil import config, data, records, student, train
    from distil.batching import Column, Examples

    step = records.Step("student", "smoke", "sst2", config.MAIN)
    network, ids = student.load(step.files())
    dev = data.load_prepared("smoke", "sst2")["dev"]
    examples = Examples((Column.of(dev["sentence1"], ids),), np.array(dev["label"][:]))
    here = train.predict(network, examples)
    with mock.patch.object(train, "device", lambda: torch.device("cpu")):
        return float(np.abs(here - train.predict(network, examples)).max())


def main() -> int:
    """Run everything, write the record; return 1 if logits of the device and the CPU differ."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--small", action="store_true", help="reduced sizes, for a CPU")
    small, began = parser.parse_args().small, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:  # before distil is imported, which reads these
        os.environ |= {"DISTIL_ARTIFACTS": f"{folder}/a", "DISTIL_RESULTS": f"{folder}/r"}
        os.environ |= {"HF_DATASETS_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1"}
        from distil import batching, config, records

        print(batching.device_name(), flush=True)
        done = chapters(SMALL if small else FULL, Path(folder))
        found: dict[str, Any] = {"device": batching.device_name(), "small": small}
        found["dataset"] = done["student"]["dataset"]
        found["seconds_of_chapters"] = {stage: record["wall"] for stage, record in done.items()}
        found["metrics"] = {stage: r["metrics"] for stage, r in done.items() if "metrics" in r}
        found["steps"], found["table_2"] = done["student"]["steps"], done["speed"]["models"]
        found["labelling"] = labelling(*((MINILM, 500) if small else (LARGE, 30_000)))
        found["student_furthest_from_cpu"] = student_apart()
        if batching.device().type == "cuda":
            found["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
        found |= {"seconds": round(time.monotonic() - began, 1)} | records.provenance()
        text = json.dumps(found, indent=1) + "\n"
        records.write_whole(config.ROOT / "results" / "gpu.json", text)
    apart = max(found["labelling"]["furthest_from_cpu"], found["student_furthest_from_cpu"])
    print(f"{found['seconds']} s; logits at most {apart:.1e} from the CPU's: results/gpu.json")
    return int(not apart < NEAR)


if __name__ == "__main__":
    sys.exit(main())
