"""Writes the results block and the figure of README.md from the records of two profiles."""

import argparse
import sys

from distil import config, figures, records, report

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PROFILES = ("glue", "offline")
NOTE = """The paper's numbers are from the GLUE test server, with BERT_LARGE and all of GLUE's rows:
compare gains, not levels. Intervals are a bootstrap over examples and seeds. Dev chose the epoch;
the test split was never used for any decision. Where a tenth of the training rows was held out, it
chose another epoch of both students, in a row of its own; dev chose the teacher's epoch."""


def block(results: report.Results) -> str:
    """Return the table of one profile and its training rows; empty if no task is complete."""
    by_task = {row["task"]: row for row in report.table(results)}.values()
    sizes = [f"{r['dataset']} {r['train_rows']:,} ({report.seeds(r['seeds'])})" for r in by_task]
    caption = f"Percent; profile `{results.profile}`. Training rows: {', '.join(sizes)}."
    return f"{report.markdown(results)}\n\n{caption}\n" if sizes else ""


def table_2(results: report.Results) -> str:
    """Return the paper's Table 2 beside ours; empty if the speed record lacks a large model."""
    rows = report.table_2(results)
    if len(rows) < len(report.LARGE_MODELS):
        return ""
    cells = [["model, against the student", "parameters: paper, ours", "time: paper, ours"]]
    cells.append(["---"] * 3)
    for row in rows:
        model, *paper = (row["paper"][key] for key in ("model", "times_larger", "times_slower"))
        ours = (row["larger"], row["slower"])
        cells.append([model, *(f"{a}x, {b:.0f}x" for a, b in zip(paper, ours, strict=True))])
    count, device = row["student"]["n_params"]["non_embedding"], row["speed"]["device"]
    table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return f"""{table}

Table 2: the student has {count:,} parameters without word vectors. The paper timed on a V100, we on
{device} (profile `{results.profile}`), so only the parameters can be compared.
"""


def rewrite(text: str, all_results: list[report.Results]) -> str:
    """Return a page with a new results block; a RecordError says that it has no such block."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    tables = [table for results in all_results if (table := block(results))]
    if not begin or not end or not tables:
        raise records.RecordError(f"wanted {BEGIN} ... {END} and a profile with a complete task")
    speed = next((table for table in map(table_2, reversed(all_results)) if table), "")
    return "\n".join([head + begin, *tables, NOTE, "", speed + end + tail])


def main() -> int:
    """Rewrite README.md, or with ``--check`` only say whether its block is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if it is stale")
    check, page = parser.parse_args().check, config.ROOT / "README.md"
    all_results, old = [report.load(profile) for profile in PROFILES], page.read_text("utf-8")
    text = rewrite(old, all_results)
    if check and text != old:
        print("README.md is not up to date: run 'python tools/readme.py'", file=sys.stderr)
    if not check:
        records.write_whole(page, text)
        figures.gains(*all_results).savefig(records.RESULTS / "figures" / "gains.png", dpi=130)
    return int(check and text != old)


if __name__ == "__main__":
    sys.exit(main())
