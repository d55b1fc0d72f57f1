"""Back-of-the-envelope arithmetic with units, so that bytes are never added to seconds."""

from collections.abc import Mapping

import pandas as pd
import pint

units = pint.UnitRegistry()
for name in ("user", "request", "video", "impression", "core", "dollar"):
    units.define(f"{name} = [{name}]")
units.define("query_per_second = request / second = QPS")
units.formatter.default_format = "~P"

Quantity = units.Quantity


def rounded(quantity: pint.Quantity, digits: int = 2) -> str:
    """Return a quantity as text with a few significant digits: an envelope promises no more."""
    return f"{float(f'{quantity.magnitude:.{digits}g}'):,g} {quantity.units:~P}".strip()


def envelope(lines: Mapping[str, pint.Quantity]) -> pd.DataFrame:
    """Return a table of named quantities, rounded to two significant digits.

    Raises ValueError when a line has no unit: write ``5 * units.request`` in place of ``5``.
    """
    bare = [name for name, quantity in lines.items() if not isinstance(quantity, pint.Quantity)]
    if bare:
        raise ValueError(
            f"These lines have no unit: {', '.join(bare)}. Multiply each by a unit, as in 5 * units.request."
        )
    return pd.DataFrame({"value": {name: rounded(quantity) for name, quantity in lines.items()}})
