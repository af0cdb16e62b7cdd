"""NLTK's averaged perceptron tagger, for many sentences at once and with the same tags to the last one.

Tags depend on the two before them, so words are tagged one position after another; but all sentences take their first word
together, then their second. Scores are added in NLTK's order, in double precision, so that sums and ties come out as there.
"""

from collections.abc import Sequence

import numpy as np
from nltk.tag.perceptron import PerceptronTagger

START, END = PerceptronTagger.START, PerceptronTagger.END
CHUNK = 20_000  # sentences at once: bounds the memory


class Perceptron:
    """Tags lists of words as ``PerceptronTagger.tag`` does.

    Args:
        tagger: NLTK's, with its weights.
    """

    def __init__(self, tagger: PerceptronTagger) -> None:
        self.tagger, self.weights = tagger, tagger.model.weights
        # In reverse: of equal scores NLTK takes the last label, argmax the first.
        self.classes = sorted(tagger.classes, reverse=True)
        self.place = {label: number for number, label in enumerate([*self.classes, *START])}
        # Feature -> its row of scores; row 0, of all that the model does not know, scores nothing.
        self.rows: dict[str, int] = {}
        self.matrix = [np.zeros(len(self.classes))]
        self.after: dict[str, list[int]] = {}  # of each word, its rows after each tag: a word is in many chunks

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tags of each sentence, one a word."""
        chunks = (sentences[start : start + CHUNK] for start in range(0, len(sentences), CHUNK))
        return [tags for chunk in chunks for tags in self._tag(chunk)]

    def _tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i]))
        lengths = np.array([len(sentences[i]) for i in order])
        ids = {word: number for number, word in enumerate(dict.fromkeys(w for words in sentences for w in words))}
        words = np.full((len(order), (lengths.max() if len(order) else 0) + 4), -1)
        for row, i in enumerate(order):
            words[row, 2 : 2 + lengths[row]] = [ids[word] for word in sentences[i]]
        own, around, after_tag, known, tags = self._tables(list(ids))
        edges = len(ids) + np.arange(4)  # the two before a sentence and the two after it
        words[:, 0], words[:, 1] = edges[0], edges[1]
        words[np.arange(len(order)), lengths + 2], words[np.arange(len(order)), lengths + 3] = edges[2], edges[3]
        chosen = np.empty((len(order), words.shape[1]), int)
        before = (START[1], START[0])  # NLTK starts from the tag -START-, and has -START2- before that
        chosen[:, 0], chosen[:, 1] = (self.place[tag] for tag in before)
        matrix = np.array(self.matrix)
        for t in range(2, words.shape[1] - 2):
            n = int((lengths > t - 2).sum())
            word, before, before2 = words[:n, t], chosen[:n, t - 1], chosen[:n, t - 2]
            features = [
                *(column[word] for column in own[:3]), tags[0][before], tags[1][before2], tags[2][before, before2],
                own[3][word], after_tag[before, word],
                around[0][words[:n, t - 1]], around[1][words[:n, t - 1]], around[2][words[:n, t - 2]],
                around[3][words[:n, t + 1]], around[4][words[:n, t + 1]], around[5][words[:n, t + 2]],
            ]  # fmt: skip
            scores = matrix[features[0]]
            for rows in features[1:]:
                scores += matrix[rows]
            chosen[:n, t] = np.where(known[word] >= 0, known[word], scores.argmax(axis=1))
        labels, found = np.array(self.classes, dtype=object), [[]] * len(order)
        for row, i in enumerate(order):
            found[i] = labels[chosen[row, 2 : 2 + lengths[row]]].tolist()
        return found

    def _tables(self, words: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Rows of the matrix: of a word's own features, of it as a neighbour, of a tag before it; its fixed tag; of tags."""
        norms = [*map(self.tagger.normalize, words), *START, *END]
        own = [
            [self._row("bias") for _ in words],
            [self._row(f"i suffix {word[-3:]}") for word in words],
            [self._row(f"i pref1 {word[:1]}") for word in words],
            [self._row(f"i word {norm}") for norm in norms[: len(words)]],
        ]
        around = [
            [self._row(f"{name} {norm[-3:] if 'suffix' in name else norm}") for norm in norms]
            for name in ("i-1 word", "i-1 suffix", "i-2 word", "i+1 word", "i+1 suffix", "i+2 word")
        ]
        for norm in set(norms[: len(words)]) - self.after.keys():
            self.after[norm] = [self._row(f"i-1 tag+i word {tag} {norm}") for tag in self.place]
        after = [self.after[norm] for norm in norms[: len(words)]]
        known = [self.place.get(self.tagger.tagdict.get(word), -1) for word in words]
        tags = (
            np.array([self._row(f"i-1 tag {tag}") for tag in self.place]),
            np.array([self._row(f"i-2 tag {tag}") for tag in self.place]),
            np.array([[self._row(f"i tag+i-2 tag {a} {b}") for b in self.place] for a in self.place]),
        )
        return np.array(own), np.array(around), np.array(after).T, np.array(known), tags

    def _row(self, feature: str) -> int:
        """Where the scores of a feature stand; 0 for one that the model does not know."""
        if feature not in self.weights:
            return 0
        if feature not in self.rows:
            self.rows[feature] = len(self.matrix)
            self.matrix.append(np.array([float(self.weights[feature].get(label, 0)) for label in self.classes]))
        return self.rows[feature]
