"""What pages say of records and code: the results block of README.md and the line numbers in docs/method.md.

``python -m distil.readme`` brings both up to date, ``--check`` only says whether they are.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from distil import paths, records, report

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
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
    caption = [f"Percent; profile `{profile}`, teacher {teachers}; training examples (and student seeds): {sizes}."]
    caption.append("Dev chose the epoch" + ("; test was used for nothing." if "test" in splits else "."))
    if "dev_untouched" in splits:
        caption.append(
            "A tenth of the training rows was held out of both students' training and chose an epoch too; the teacher's was "
            "chosen on dev."
        )
    return f"{report.markdown(profile)}\n\n{' '.join(caption)}\n"


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
    return head + "\n".join([BEGIN, *tables, NOTE, END]) + tail


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
    pages = {paths.ROOT / "README.md": readme}
    pages[paths.ROOT / "docs" / "method.md"] = lambda text: anchors(text, paths.ROOT / "docs")
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
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
