"""What ``make drift`` concludes: which versions it allows, what moved, and which package broke which test."""

import drift
from packaging.requirements import Requirement

from distil import paths

PROJECT = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_every_direct_dependency_may_move_within_its_major_version():
    pinned = drift.pins(PROJECT)
    wanted = [Requirement(line) for line in drift.bounds(pinned)]
    assert len(wanted) > 20 and {one.name for one in wanted} == set(pinned)
    for one in wanted:
        major = int(pinned[one.name].partition(".")[0])
        assert pinned[one.name] in one.specifier and f"{major + 1}.0" not in one.specifier
        assert (f"{major}.999" in one.specifier) == (one.name != "torch")


def test_what_moved_came_and_went():
    before = drift.installed("a_b==1.0\nsame==2\ngone==3\n")
    after = drift.installed("A.b==1.5\nsame==2+cpu\nnew==4\n# comment\n-e .\n")
    assert drift.moved(before, after) == {"a-b": ("1.0", "1.5"), "gone": ("3", "-"), "new": ("-", "4")}
    assert len(drift.installed((paths.ROOT / "constraints.txt").read_text(encoding="utf-8"))) > 100


def test_the_culprit_is_the_package_whose_return_cures_a_test():
    asked = []

    def still_failing(name, old):
        asked.append((name, old))
        return {"bad": ["t2"], "harmless": ["t1", "t2"]}[name]

    changes = {"bad": ("1", "2"), "harmless": ("1", "2"), "new": ("-", "1")}
    assert drift.culprits(changes, ["t1", "t2"], still_failing) == {"bad": ["t1"]}
    assert asked == [("bad", "1"), ("harmless", "1")]
    assert drift.culprits(changes, [], still_failing) == {} and len(asked) == 2
