"""What pages say of records and code: the results block of README.md and the line numbers in docs/method.md.

``python -m distil.readme`` brings both up to date, ``--check`` only says whether they are.
"""

import argparse
import re
import sys
from pathlib import Path

from distil import paths, records, report

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def readme_block(profile: str) -> str:
    """What stands between the two marks in README.md."""
    rows = report.table(profile)
    if not rows:
        raise records.RecordError(f"no task of profile {profile} is complete: make reproduce PROFILE={profile}")
    teachers, seeds = (", ".join(sorted({str(row[key]) for row in rows})) for key in ("teacher_name", "seeds"))
    sizes = ", ".join(f"{row['dataset']} {row['train_rows']:,}" for row in {row["task"]: row for row in rows}.values())
    caption = (
        f"Percent; profile `{profile}`, teacher {teachers}, student seeds {seeds}; training examples: {sizes}. Dev chose the "
        "epoch; test was used for nothing. The paper's numbers are of the GLUE test server, with BERT_LARGE, on SST-2, QQP and "
        "MNLI: read gains, not levels, across the two. The interval is a bootstrap over examples and seeds."
    )
    return f"{BEGIN}\n{report.markdown(profile)}\n\n{caption}\n{END}"


def readme(text: str, profile: str) -> str:
    """README.md with its results block made anew.

    Raises:
        RecordError: it has no such block, or the profile no complete task.
    """
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    if not rest or END not in rest:
        raise records.RecordError(f"README.md has no block between {BEGIN} and {END}")
    return head + readme_block(profile) + tail


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
    parser.add_argument("--profile", default="offline")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page is not up to date")
    options = parser.parse_args(arguments)
    pages = {paths.ROOT / "README.md": lambda text: readme(text, options.profile)}
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
            page.write_text(wanted[page], encoding="utf-8")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
