"""What pages say of records and code: the results and the figure of README.md, and the tables and line numbers in docs/.

``python -m distil.readme`` brings them up to date, ``--check`` only says whether they are (of the figure it cannot tell).
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from distil import figures, paths, records, report, speeds

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
GUARDED = {  # file of tests -> what it does to the pipeline
    "bad_bytes": "each kind of file that a run keeps, damaged in each of seven ways",
    "bad_data": "broken and odd GLUE folders",
    "full_disk": "a disk that is full",
    "kills": "processes that a kill must not leave behind",
    "packages": "downloads that fail, archives with links, bombs or another digest",
    "word2vec": "word vectors cut short or with foreign pickles",
    "transfer": "shards that are missing, damaged or of another teacher",
    "train": "a student's checkpoint: resumed to the bit, refused if it is another run's",
    "teacher": "a teacher's checkpoints: whole, of the same run, with the best one",
    "ranks": "two processes against one",
    "steps": "notebooks that fail, two runs of one step, little disk space",
    "makefile": "what runs again after which change; hostile settings",
    "records": "records: whole or not at all, refused if a value has changed",
    "augment": "the three rules: the same draws for any number of processes",
    "words": "tokenization and tags; a tagger whose pickle would run code",
}
SHOWN = ("glue", "offline")  # profiles whose results README shows, where there are any
NOTE = (
    "The paper's numbers are of the GLUE test server, with BERT_LARGE, on SST-2, QQP and MNLI in full: read gains, not levels, "
    "across the two. The interval is a bootstrap over examples and seeds."
)


def results(profile: str) -> str:
    """Table and caption of one profile; empty if it has no complete task."""
    rows = report.table(profile)
    if not rows:
        return ""
    by_task = {row["task"]: row for row in rows}.values()
    teachers = ", ".join(sorted({row["teacher_name"] for row in rows}))
    sizes = ", ".join(f"{row['dataset']} {row['train_rows']:,} ({len(row['seeds'])})" for row in by_task)
    splits = {row["split"] for row in rows}
    caption = [f"Percent; profile `{profile}`, teacher {teachers}; training rows (and student seeds): {sizes}."]
    caption.append("Dev chose the epoch" + ("; test was used for nothing." if "test" in splits else "."))
    if "dev_untouched" in splits:
        caption.append(
            "A tenth of the training rows was held out of both students' training and chose an epoch too; the teacher's was "
            "chosen on dev."
        )
    return f"{report.markdown(profile)}\n\n{' '.join(caption)}\n"


def table_2(profile: str) -> str:
    """The paper's Table 2 beside the models of a profile's speed record, as ratios to its student; empty if it has none."""
    record, student, rows = speeds.table_2(profile)
    if len(rows) < len(speeds.MODELS):
        return ""
    lines = [
        "| against the paper's student | parameters: paper, here | arithmetic here | time: paper (V100), here |",
        "|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.published['model']} | {row.published['times_larger']}x, {row.larger:.0f}x | {row.more_arithmetic:.0f}x "
            f"| {row.published['times_slower']}x, {row.slower:.0f}x |"
        )
    fewest = min(row.sentences for row in rows)
    count, total = student["n_params"]["non_embedding"], student["n_params"]["total"] / 1e6
    lines += [
        "",
        f"Speed and size (Table 2): the student has {count:,} parameters without word vectors, as the paper counts, and",
    ]
    lines.append(
        f"{total:.1f} million with them. Arithmetic: floating-point operations for one sentence. "
        f"Measured by `make reproduce PROFILE={profile}` on {record['device']}, "
        f"{student['sentences']:,} sentences"
        f"{f' ({fewest} for the two large models)' if fewest < student['sentences'] else ''}."
    )
    return "\n".join(lines) + "\n"


def readme(text: str, profiles: Sequence[str] = SHOWN) -> str:
    """README.md with its results block made anew.

    Raises:
        RecordError: it has no such block, or no profile has a complete task.
    """
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    if not rest or END not in rest:
        raise records.RecordError(f"README.md has no block between {BEGIN} and {END}")
    tables = [table for profile in profiles if (table := results(profile))]
    if not tables:
        raise records.RecordError(f"no task of {', '.join(profiles)} is complete: make reproduce")
    speed = next(filter(None, map(table_2, reversed(profiles))), "")
    return head + "\n".join([BEGIN, *tables, NOTE, "", speed, END]).replace(f"\n\n\n{END}", f"\n{END}") + tail


def _between(text: str, block: str) -> str:
    """A page with its results block made anew."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{block}\n{END}{rest.partition(END)[2]}"


def reliability(text: str) -> str:
    """docs/reliability.md with the tables of ``results/reliability.json``, if ``make torture`` has written it."""
    path = paths.RESULTS / "reliability.json"
    if not path.exists():
        return text
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| tests | tried | failed | could not run here |", "|---|---|---|---|"] if "tests" in found else []
    for name, count in found.get("tests", {}).items():
        lines.append(f"| {GUARDED.get(name, name)} | {count['tried']} | {count['failed']} | {count['skipped']} |")
    for kills in (value for key, value in found.items() if key.startswith("kills-")):
        ways = ", ".join(f"{count} of {way}" for way, count in kills["ways"].items())
        struck = ", ".join(f"{name} {count}" for name, count in kills["struck"].items())
        both, wrong, alone = kills.get("two_at_once"), len(kills["differences"]), kills["seconds_undisturbed"]
        reference = f"a run that was left alone ({alone} s)" if alone else "the committed run, which was left alone"
        lines += [
            "",
            f"**Kills, profile `{kills['profile']}`, tasks {kills['tasks']}**: {kills['kills']} SIGKILLs at random moments",
            f"({ways}), at commit {kills['commit'][:12]}.",
            f"They struck {struck}. Then the run was let finish: of its {kills['records']} records {wrong} were missing or",
            f"different from those of {reference}{':' if wrong else '.'}",
            *(f"- {line}" for line in kills["differences"]),
        ]
        if both:
            lines += [
                f"Two runs at once in one folder: {both['told_that_another_runs_the_step']} steps were refused because the other",
                f"run had them, and a third run ended with exit status {both['third_run']}.",
            ]
    tests = f"The tests ran at commit {found['git']['commit'][:12]}, Python {found['versions']['python']}."
    return _between(text, "\n".join([*lines, "", tests]))


def speed(text: str) -> str:
    """docs/speed.md with the tables of ``results/bench.json``, if ``make bench`` has written it."""
    path = paths.RESULTS / "bench.json"
    if not path.exists():
        return text
    found = json.loads(path.read_text(encoding="utf-8"))
    labelling, training, augmentation = (found[name] for name in ("labelling", "student training", "augmentation"))
    inference = found["student inference"]
    rows = [
        ("labelling, sentences/s", labelling["plain"], labelling["ours"], labelling["ratio"],
         f"{labelling['share_of_bound']:.0%} of what the matrix product allows: {labelling['bound']:,.0f}/s, which would be "
         f"{labelling['bound'] / labelling['plain']:.1f} times as fast as the plain way"),
        ("student training, examples/s", training["plain"], training["ours"], training["ratio"], ""),
        ("student inference, sentences/s", inference["plain"], inference["float32"], inference["ratio"],
         f"bfloat16 {inference['bfloat16']:,.0f}/s, int8 {inference['int8']:,.0f}/s"),
        ("augmentation, source sentences/s", augmentation["sentences"] / augmentation["seconds"] / augmentation["ratio"],
         augmentation["sentences"] / augmentation["seconds"], augmentation["ratio"],
         f"{augmentation['sentences']:,} sentences tagged and drawn from 20 times in {augmentation['seconds']:.1f} s"),
    ]  # fmt: skip
    lines = ["| stage | plain | ours | times as fast | |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {plain:,.0f} | {ours:,.0f} | {ratio:.1f} | {note} |" for name, plain, ours, ratio, note in rows
    ]
    lines += ["", "| source pairs | samples | seconds | peak memory (MB) |", "|---|---|---|---|"]
    for row in found["scale"]:
        lines.append(f"| {row['pairs']:,} | {row['samples']:,} | {row['seconds']:,.0f} | {row['memory_mb']:,.0f} |")
    lines += ["", "![Ratios to the plain ways, and growth up to MNLI's size](../results/figures/bench.png)"]
    growth, where = found["growth"], f"{found['dataset']}, {found['device']}, commit {found['git']['commit'][:12]}"
    lines += ["", f"Exponent of growth (1: twice the pairs cost twice as much): {growth['seconds']} of time,"]
    return _between(text, "\n".join([*lines, f"{growth['memory_mb']} of memory. Measured on {where}."]))


def anchors(text: str, folder: Path) -> str:
    """A page in ``folder`` whose links ``[name](file.py#L1)`` point to the line that defines ``name``.

    Raises:
        RecordError: the file does not define that name.
    """

    def anchor(link: re.Match[str]) -> str:
        name, target = link[1], link[2]
        lines = (folder / target).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            if re.match(rf"\s*(def|class) {name}\b", line):
                return f"[{name}]({target}#L{number})"
        raise records.RecordError(f"{target} does not define {name}, to which a page links")

    return re.sub(r"\[(\w+)\]\(([\w./]+\.py)#L\d+\)", anchor, text)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m distil.readme", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page is not up to date")
    options = parser.parse_args(arguments)
    docs = paths.ROOT / "docs"
    pages = {paths.ROOT / "README.md": readme, docs / "reliability.md": reliability, docs / "speed.md": speed}
    pages[docs / "method.md"] = lambda text: anchors(text, docs)
    try:
        wanted = {page: update(page.read_text(encoding="utf-8")) for page, update in pages.items()}
    except records.RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = [page for page, text in wanted.items() if text != page.read_text(encoding="utf-8")]
    for page in stale:
        if options.check:
            print(f"{page.name} is not up to date: run 'python -m distil.readme'", file=sys.stderr)
        else:
            paths.write(page, wanted[page])
    if not options.check:
        figures.gains(*SHOWN).savefig(paths.RESULTS / "figures" / "gains.png", dpi=130)
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
