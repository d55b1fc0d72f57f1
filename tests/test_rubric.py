"""The rubric weighs rows, caps red flags and names bands, and refuses what is no score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.rubric import (
    CALIBRATION,
    RED_FLAG_CAP,
    RED_FLAGS,
    RUBRIC,
    band,
    check_scores,
    rubric_table,
    total,
)
from helpers.sections import section_link

points = st.fixed_dictionaries({row: st.integers(0, 4) for row in RUBRIC})


def scored(value, **others):
    """All rows with the same points, but for some."""
    return dict.fromkeys(RUBRIC, value) | {name.replace("_", " "): n for name, n in others.items()}


def test_the_weights_sum_to_a_hundred_and_each_row_has_four_levels_and_a_section():
    assert sum(row.weight for row in RUBRIC.values()) == 100
    assert all(len(row.levels) == 4 and section_link(row.concept_id) for row in RUBRIC.values())
    assert rubric_table().shape == (7, 5)


def test_the_bands_are_said_to_be_a_calibration():
    assert "not a truth" in CALIBRATION


@given(points)
def test_a_total_is_the_weighted_share_and_a_red_flag_caps_it(given_points):
    reached = total(given_points)
    assert reached == pytest.approx(sum(RUBRIC[row].weight * n for row, n in given_points.items()) / 4)
    assert 0 <= reached <= 100
    assert total(given_points, ["label"]) == min(reached, RED_FLAG_CAP)


@given(points, st.sampled_from(sorted(RUBRIC)))
def test_a_point_more_never_lowers_the_band(given_points, row):
    order = ["no hire", "mid", "Senior", "Staff"]
    better = given_points | {row: min(4, given_points[row] + 1)}
    assert order.index(band(better)) >= order.index(band(given_points))


@pytest.mark.parametrize(
    ("given_points", "named"),
    [
        (scored(1), "no hire"),
        (scored(2), "mid"),
        (scored(3), "Senior"),
        (scored(2, data_and_features=3, framing_and_metrics=3), "Senior"),  # 60 exactly
        (scored(2, framing_and_metrics=1), "mid"),  # 45 exactly
        (scored(2, framing_and_metrics=1, communication=1), "no hire"),
        (scored(3, data_and_features=2), "mid"),
        (scored(4, communication=1), "mid"),
        (scored(4, communication=2), "Senior"),
        (scored(4), "Staff"),
        (scored(4, model=3, estimation=3, communication=3), "Staff"),
        (scored(4, model=3, estimation=3, communication=3, architecture=3), "Senior"),
        (scored(0, model=4), "no hire"),
    ],
)
def test_a_band_needs_its_total_and_its_rows(given_points, named):
    assert band(given_points) == named


def test_a_red_flag_keeps_the_best_out():
    assert band(scored(4), ["accuracy"]) == "mid"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: total({"model": 3}), "no points yet: framing"),
        (lambda: total(scored(3), ["ugly"]), "red flag must be one of"),
        (lambda: check_scores({"style": 3}), "row must be one of"),
        (lambda: check_scores({"model": 5}), "points of model"),
        (lambda: check_scores({"model": 2.5}), "points of model"),
        (lambda: check_scores({"model": True}), "points of model"),
    ],
)
def test_what_is_no_score_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_every_red_flag_has_words():
    assert all(len(words) > 10 for words in RED_FLAGS.values())
