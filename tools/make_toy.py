"""Writes ``distil/toy``: a small data set of our own in GLUE's TSV layout, for smoke runs and tests.

The sentences come from a few templates. Each word of the templates has one part-of-speech tag, so
the toy tagger is a lexicon and not a model. No dev example is in train.
"""

import itertools
import json
import random
import sys
from pathlib import Path

TOY = Path(__file__).resolve().parent.parent / "distil" / "toy"
THINGS = ["film", "story", "book", "meal", "play", "song", "soup", "novel", "dinner", "scene"]
GOOD = ["good", "lovely", "warm", "bright", "clever", "fresh", "funny", "moving"]
BAD = ["bad", "dull", "cold", "weak", "boring", "stale", "sad", "clumsy"]
ADVERBS = ["very", "really", "quite", "truly"]
PEOPLE = ["man", "woman", "girl", "boy", "cook", "writer", "singer", "child"]
VERBS = ["reads", "sings", "cooks", "writes", "sleeps", "runs"]
PLACES = ["kitchen", "garden", "library", "street", "house", "park"]
FILLERS = {
    "DT": ["the", "a", "this", "no"],
    "VBZ": ["is", "was", "'s", "does"],
    "RB": ["n't", "not", "how", "often"],
    "CC": ["and", "but"],
    "IN": ["in", "about"],
    "PRP": ["it", "i"],
    "VBP": ["call", "find", "do"],
    "WDT": ["what", "which"],
    ".": [".", "?", "!"],
    ",": [","],
    "''": ['"'],
}
LEXICON = {
    "NN": THINGS + PEOPLE + PLACES,
    "JJ": GOOD + BAD,
    "RB": ADVERBS,
    "VBZ": VERBS,
    "VB": ["call", "find"],
}


def sentiment(rng: random.Random) -> tuple[tuple[str], int]:
    """Return a sentence about a thing, and whether it is praised; ``n't`` negates the judgement."""
    label = rng.randrange(2)
    right, wrong = (GOOD, BAD) if label else (BAD, GOOD)
    thing, adverb, one, two = rng.choice(THINGS), rng.choice(ADVERBS), *rng.sample(right, 2)
    text = rng.choice(
        [
            f"the {thing} is {adverb} {one} .",
            f"a {one} and {two} {thing} .",
            f"this {thing} is n't {rng.choice(wrong)} , it 's {one} !",
            f'i call the {thing} " {one} " , and {adverb} {two} .',
            f"it 's a {adverb} {one} {thing} about a {rng.choice(PEOPLE)} .",
        ]
    )
    return (text,), label


def question_pair(rng: random.Random) -> tuple[tuple[str, str], int]:
    """Return two questions; they are duplicates if place and person are the same in both."""
    label = rng.randrange(2)
    person, place, verb = rng.choice(PEOPLE), rng.choice(PLACES), rng.choice(VERBS)
    first = f"which {person} {verb} in the {place} ?"
    if not label:
        person, place = (
            rng.choice([p for p in PEOPLE if p != person]),
            rng.choice([p for p in PLACES if p != place]),
        )
    return (
        first,
        rng.choice(
            [f"in the {place} , which {person} {verb} ?", f"what {person} {verb} in the {place} ?"]
        ),
    ), label


def inference(rng: random.Random) -> tuple[tuple[str, str], int]:
    """Return a premise and a hypothesis.

    Entailment drops the place, neutral adds an adjective, and contradiction denies the premise.
    """
    label = rng.randrange(3)
    person, place, verb = rng.choice(PEOPLE), rng.choice(PLACES), rng.choice(VERBS)
    hypothesis = (
        f"a {person} {verb} .",
        f"a {rng.choice(GOOD + BAD)} {person} {verb} {rng.choice(ADVERBS)} often .",
        f"no {person} {verb} in the {place} .",
    )[label]
    return (f"the {person} {verb} in the {place} .", hypothesis), label


def draw(make: object, sizes: dict[str, int], seed: int) -> dict[str, list[tuple]]:
    """Return distinct examples for each split."""
    rng, seen, splits = random.Random(seed), set(), {}
    for split, size in sizes.items():
        rows = splits[split] = []
        while len(rows) < size:
            texts, label = make(rng)
            if texts not in seen:
                seen.add(texts)
                rows.append((*texts, label))
    return splits


def files() -> dict[str, str]:
    """Return relative path -> contents for every file of the toy set."""
    labels = ("entailment", "neutral", "contradiction")
    sizes, made = {"train": 240, "dev": 80}, {}
    for split, rows in draw(sentiment, sizes, seed=1).items():
        made[f"SST-2/{split}.tsv"] = [("sentence", "label"), *rows]
    ids = itertools.count()
    for split, rows in draw(question_pair, sizes, seed=2).items():
        head = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
        made[f"QQP/{split}.tsv"] = [
            head,
            *((next(ids), next(ids), next(ids), *row) for row in rows),
        ]
    mnli = {"train": 240, "dev_matched": 80, "dev_mismatched": 80}
    for split, rows in draw(inference, mnli, seed=3).items():
        body = [(i, "toy", a, b, labels[label]) for i, (a, b, label) in enumerate(rows)]
        made[f"MNLI/{split}.tsv"] = [
            ("index", "genre", "sentence1", "sentence2", "gold_label"),
            *body,
        ]
    texts = {
        name: "".join("\t".join(map(str, row)) + "\n" for row in rows)
        for name, rows in made.items()
    }
    pairs = [
        (word, tag) for tags in (FILLERS, LEXICON) for tag, words in tags.items() for word in words
    ]
    return texts | {"tags.json": json.dumps(dict(sorted(pairs)), indent=0) + "\n"}


if __name__ == "__main__":
    for name, text in files().items():
        (TOY / name).parent.mkdir(parents=True, exist_ok=True)
        (TOY / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {TOY.name}\n")
