"""Envelopes keep their units and promise no more than two digits."""

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.capacity import envelope, rounded, units


def test_a_rate_keeps_its_dimension():
    daily = 200e6 * units.user * 10 * units.request / units.user / units.day
    assert daily.to("QPS").magnitude == pytest.approx(2e9 / 86_400)


def test_bytes_cannot_be_added_to_seconds():
    with pytest.raises(pint.DimensionalityError):
        1 * units.byte + 1 * units.second


def test_an_envelope_shows_two_digits_with_the_unit():
    table = envelope({"traffic": 23_148.1 * units.QPS, "log": 0.0123 * units.byte})
    assert table.value.tolist() == ["23,000 QPS", "0.012 B"]


def test_a_line_without_a_unit_is_named():
    with pytest.raises(ValueError, match="no unit: log"):
        envelope({"traffic": 5 * units.QPS, "log": 5})


@given(st.floats(1e-6, 1e12))
def test_rounding_stays_within_half_a_unit_of_the_second_digit(value):
    number = float(rounded(value * units.byte).split()[0].replace(",", ""))
    assert number == pytest.approx(value, rel=0.05 + 1e-9)
