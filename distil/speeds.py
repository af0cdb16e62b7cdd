"""The paper's Table 2 beside a profile's speed record (05_speed): how many times larger and slower than the student."""

from dataclasses import dataclass
from typing import Any

from distil import paths, report

MODELS = ("bert-large", "elmo")  # our names for the two rows of the paper's Table 2, in its order


@dataclass(frozen=True)
class Ratios:
    """One large model over the student, both measured in the same run."""

    published: dict[str, Any]  # the paper's row: model, times_larger, times_slower
    larger: float  # parameters over the student's without word vectors, as the paper counts
    larger_in_full: float  # parameters over all of the student's
    more_arithmetic: float  # floating-point operations for one sentence
    slower: float  # time for a sentence, in batches
    sentences: int  # that the large model was timed on


def table_2(profile: str) -> tuple[dict[str, Any], dict[str, Any], list[Ratios]]:
    """The speed record, its student and the ratios of each large model that it has; three empty ones without a student.

    Raises:
        RecordError: the record says that it is of another profile.
    """
    path = paths.RESULTS / "speed" / f"{profile}.json"
    record = report.read(path, profile) if path.exists() else {"models": []}
    models = {row["name"]: row for row in record["models"]}
    if "student" not in models:
        return {}, {}, []
    rows = zip(MODELS, report.paper()["table_2"]["rows"], strict=False)
    ratios = [_ratios(row, models[name], models["student"]) for name, row in rows if name in models]
    return record, models["student"], ratios


def _ratios(published: dict[str, Any], large: dict[str, Any], student: dict[str, Any]) -> Ratios:
    return Ratios(
        published,
        large["n_params"]["total"] / student["n_params"]["non_embedding"],
        large["n_params"]["total"] / student["n_params"]["total"],
        large["mflops"] / student["mflops"],
        student["sentences_per_second"] / large["sentences_per_second"],
        large["sentences"],
    )
