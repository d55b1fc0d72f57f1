"""Text search: an inverted index with BM25, and the repair of words that no text holds."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

K1, B = 1.2, 0.75  # how soon a repeated word stops counting, and how much long texts are held back


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters, digits and underscores.

    Raises TypeError when the text is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"A text must be a string, not {text!r}: fill or drop what is missing.")
    return re.findall(r"\w+", text.lower())


class InvertedIndex:
    """For each word the texts that hold it, and how often: a search reads the texts of its words alone."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the texts; their ids are their positions.

        Raises ValueError when there is none or `texts` is a single string, TypeError as `words` does.
        """
        if isinstance(texts, str):
            raise ValueError("Pass a list of texts: a single string would be indexed letter by letter.")
        if not len(texts):
            raise ValueError("There is no text to index.")
        self.postings: dict[str, dict[int, int]] = defaultdict(dict)
        self.lengths = np.array([len(words(text)) for text in texts])
        for number, text in enumerate(texts):
            for word, count in Counter(words(text)).items():
                self.postings[word][number] = count
        self.postings.default_factory = None  # from here on an unknown word is an error, not a new entry

    def __contains__(self, word: str) -> bool:
        """Tell whether a text holds the word, in upper or lower case."""
        return word.lower() in self.postings

    def search(self, query: str, k: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and BM25 scores of the k best texts that hold a word of the query, best first.

        Each word adds ln(1 + (N - n + .5) / (n + .5)) f (K1 + 1) / (f + K1 (1 - B + B length / mean length)),
        with n of the N texts holding it, f times in this one (Robertson and Zaragoza 2009). Ties: lower id
        first. k: None returns all. Raises ValueError when k is below 0.
        """
        if k is not None and k < 0:
            raise ValueError(f"k must be at least 0, or None for all texts, not {k}.")
        scores: dict[int, float] = defaultdict(float)
        for word in words(query):
            holders = self.postings.get(word, {})
            rarity = np.log1p((len(self.lengths) - len(holders) + 0.5) / (len(holders) + 0.5))
            for number, count in holders.items():
                length = K1 * (1 - B + B * self.lengths[number] / self.lengths.mean())
                scores[number] += rarity * count * (K1 + 1) / (count + length)
        best = sorted(scores, key=lambda number: (-scores[number], number))[:k]
        return np.array(best, int), np.array([scores[number] for number in best])

    def repaired(self, query: str) -> str:
        """Return the query with each word that no text holds replaced by the most similar one that is held.

        A word without a similar one stays. Similarity: `difflib`, by the longest matching blocks.
        """
        known = list(self.postings)
        return " ".join(
            word if word in self else (get_close_matches(word, known, 1) or [word])[0]
            for word in words(query)
        )
