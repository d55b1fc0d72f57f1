"""BM25 agrees with a naive computation from its formula; unknown words are repaired, known ones stay."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.search import InvertedIndex, words

TEXTS = ["The red fox", "the fox, the FOX!", "a blue whale in the deep blue sea", "fish", "red"]
TEXT = st.lists(st.sampled_from("abcd"), max_size=5).map(" ".join)


def naive_bm25(texts, query):
    """Score each text that holds a word of the query, straight from the formula."""
    mean = np.mean([len(words(text)) for text in texts])
    scores = {}
    for word in words(query):
        n = sum(word in words(text) for text in texts)
        for number, text in enumerate(texts):
            if f := words(text).count(word):
                rarity = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
                norm = f + 1.2 * (0.25 + 0.75 * len(words(text)) / mean)
                scores[number] = scores.get(number, 0) + rarity * f * 2.2 / norm
    return scores


@given(st.lists(TEXT, min_size=1, max_size=6).filter(lambda texts: any(map(words, texts))), TEXT)
def test_search_agrees_with_the_formula(texts, query):
    ids, scores = InvertedIndex(texts).search(query)
    assert dict(zip(ids.tolist(), scores.tolist(), strict=True)) == pytest.approx(naive_bm25(texts, query))
    assert all(np.diff(scores) <= 1e-12)


def test_the_best_k_come_first():
    index = InvertedIndex(TEXTS)
    assert list(index.search("fox", 1)[0]) == [1]
    assert list(index.search("red fox")[0]) == [0, 4, 1]
    assert list(index.search("FOX")[0]) == list(index.search("fox")[0])


def test_unknown_words_find_nothing_and_change_nothing():
    index = InvertedIndex(TEXTS)
    assert len(index.search("zebra")[0]) == 0
    assert "zebra" not in index and "fox" in index


def test_a_misspelled_word_is_repaired_and_others_stay():
    index = InvertedIndex(TEXTS)
    assert index.repaired("blu whlae") == "blue whale"
    assert index.repaired("red fox") == "red fox"
    assert index.repaired("xyzzy red") == "xyzzy red"


def test_nothing_to_index_is_refused():
    with pytest.raises(ValueError, match="no text"):
        InvertedIndex([])
    with pytest.raises(ValueError, match="letter by letter"):
        InvertedIndex("red fox")
    with pytest.raises(TypeError, match="must be a string, not nan"):
        InvertedIndex(["red", float("nan")])


def test_a_negative_k_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        InvertedIndex(TEXTS).search("fox", -1)


def test_a_word_is_held_in_upper_or_lower_case():
    assert "The" in InvertedIndex(TEXTS)
