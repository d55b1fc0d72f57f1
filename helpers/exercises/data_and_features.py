"""The exercises of notebook 03: data and features."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.exercises import (
    Exercise,
    Mistake,
    Test,
    close,
    confuses,
    mistaken,
    near,
    replies,
    same_as,
    tidy,
)

# ------------------------------------------------------------------ 1 as-of join


def _events(*rows: tuple[int, int]) -> pd.DataFrame:
    """A table of events out of (user, second)."""
    users, seconds = zip(*rows, strict=True)
    return pd.DataFrame({"user_id": users, "timestamp": pd.to_datetime(seconds, unit="s")})


def _values(*rows: tuple[int, int]) -> pd.DataFrame:
    """A table of values out of (user, second); each value is its own second."""
    return _events(*rows).assign(value=[float(second) for _, second in rows])


def _as_of(events: pd.DataFrame, values: pd.DataFrame, **changes: Any) -> pd.Series:
    order, values = events.sort_values("timestamp", kind="stable"), values.sort_values("timestamp")
    rule = {"by": "user_id", "allow_exact_matches": False} | changes
    joined = pd.merge_asof(order, values, on="timestamp", **rule)
    return joined["value"].set_axis(order.index).reindex(events.index)


def _lowest_row(events: pd.DataFrame, values: pd.DataFrame) -> pd.Series:
    """For each event, the earlier value of its user that stands last in the table."""
    pairs = events.reset_index().merge(values, on="user_id", suffixes=("", "_of_value"))
    past = pairs[pairs["timestamp_of_value"] < pairs["timestamp"]]
    return past.groupby("index")["value"].last().reindex(events.index)


def _latest(events: pd.DataFrame, values: pd.DataFrame) -> pd.Series:
    return events["user_id"].map(values.sort_values("timestamp").groupby("user_id")["value"].last())


TABLES = (
    _events((1, 50), (2, 20), (1, 10), (3, 30), (2, 60), (1, 50), (2, 20), (1, 70), (4, 50)),
    _values((2, 55), (1, 65), (1, 10), (2, 20), (1, 40), (5, 45), (1, 5), (2, 15), (1, 90), (4, 80)),
)


def _is_table(reply: Any, _: Any = None) -> bool:
    """Whether a reply has several columns where one value for each event is wanted."""
    return isinstance(reply, pd.DataFrame) and reply.shape[1] > 1


def _same_column(reply: Any, wanted: ArrayLike) -> bool:
    return not _is_table(reply) and close(reply, wanted)


as_of_join = Exercise(
    title="the as-of join",
    right=same_as(_as_of, [TABLES], _same_column),
    reason="Each event gets what was known of its user just before it: what serving would have read.",
    mistakes=(
        Mistake(
            "a table",
            replies(TABLES, None, _is_table),
            "You return a whole table. Give back its column `value` alone, in the order of the events.",
            example=lambda e, v: e.assign(value=_as_of(e, v)),
        ),
        Mistake(
            "zero",
            replies((_events((1, 10)), _values((1, 20))), 0),
            "Where nothing is known you return 0, a value that somebody might have. Leave it missing.",
            example=lambda e, v: _as_of(e, v).fillna(0),
        ),
        Mistake(
            "the future",
            replies((_events((1, 10)), _values((1, 5), (1, 99))), 99),
            "That is the future leak: an event got a value that was written after it. Filter by timestamp.",
            example=_latest,
        ),
        Mistake(
            "nearest",
            replies((_events((1, 10)), _values((1, 5), (1, 11))), 11),
            "The nearest value may be newer than the event. Look backward only.",
            example=lambda e, v: _as_of(e, v, direction="nearest"),
        ),
        Mistake(
            "other users",
            replies((_events((1, 10)), _values((2, 5))), 5),
            "An event got the value of another user. Match the user first, then the time.",
            example=lambda e, v: _as_of(e, v, by=None),
        ),
        Mistake(
            "same instant",
            replies((_events((1, 10)), _values((1, 5), (1, 10))), 10),
            "A value of the same instant may be the result of the event itself: *strictly* before.",
            example=lambda e, v: _as_of(e, v, allow_exact_matches=True),
        ),
        Mistake(
            "first",
            replies((_events((1, 10)), _values((1, 5), (1, 8))), 5),
            "You took the user's first value. The newest before the event is wanted.",
            example=lambda e, v: _lowest_row(e, v.sort_values("timestamp", ascending=False)),
        ),
        Mistake(
            "lowest row",
            replies((_events((1, 10)), _values((1, 8), (1, 5))), 5),
            "You took the row that stands last, but the table is not sorted. Go by the timestamp.",
            example=_lowest_row,
        ),
        Mistake(
            "sorted",
            replies((_events((1, 10), (1, 7)), _values((1, 5), (1, 8))), [5, 8]),
            "Right values, but in the order of time. Give them back in the order of the events.",
            example=lambda e, v: _as_of(e.sort_values("timestamp", ignore_index=True), v),
        ),
    ),
    otherwise="Return one value for each event, NaN without one. `pd.merge_asof` wants both tables sorted by "
    "timestamp; afterwards bring the rows back into the order of the events.",
    hints=(
        "For one event: the values of this user, before this time; of them the newest.",
        "`pd.merge_asof` does it with `by='user_id'`. Does it allow a value of the same instant?",
        "Sort `events.reset_index()` by timestamp, join, then sort by `index` again.",
    ),
    solution_code="""
import pandas as pd

def answer(events, values):
    joined = pd.merge_asof(
        events.reset_index(drop=True).reset_index().sort_values("timestamp"),
        values.sort_values("timestamp"),
        on="timestamp",
        by="user_id",
        allow_exact_matches=False,
    )
    return joined.sort_values("index")["value"].to_numpy()
""",
    probe=TABLES,
)

# ------------------------------------------------------------------ 2 streaming window

TIMES = [
    ([0, 10, 10, 299, 300, 301, 310, 600, 601, 601, 1500],),
    ([7, 7, 7, 307, 308, 900, 1100, 1199, 1200],),
]


def _since(times: ArrayLike, start: Callable[[np.ndarray], ArrayLike], side: str = "left") -> np.ndarray:
    """Count the events in [start(t), t) for each t; with `side` "right", those in (start(t), t)."""
    t = np.asarray(times)
    return np.searchsorted(t, t) - np.searchsorted(t, start(t), side)


def _last_five_minutes(times: ArrayLike, side: str = "left") -> np.ndarray:
    return _since(times, lambda t: t - 300, side)


def _earlier_rows(times: ArrayLike) -> np.ndarray:
    return np.arange(len(times)) - np.searchsorted(times, np.asarray(times) - 300)


streaming_window = Exercise(
    title="the streaming window",
    right=same_as(_last_five_minutes, TIMES),
    reason="Each event counts those in [t - 300, t). With two pointers or a deque an event enters once and "
    "leaves once; comparing all pairs would not keep up with a stream.",
    mistakes=(
        Mistake(
            "itself",
            replies(([0],), [1]),
            "The first event counts itself. Count first, then add it.",
            example=lambda times: _last_five_minutes(times) + 1,
        ),
        Mistake(
            "everything",
            replies(([0, 5000],), [0, 1]),
            "You count since the beginning. Drop what is older than five minutes.",
            example=lambda times: _since(times, np.zeros_like),
        ),
        Mistake(
            "tumbling",
            replies(([299, 301],), [0, 0]),
            "Your window starts anew every five minutes, so close events may not meet. It must slide.",
            example=lambda times: _since(times, lambda t: t // 300 * 300),
        ),
        Mistake(
            "ties",
            lambda answer: sum(answer([0, 0, 0])) > 0,
            "Events of the same instant see each other: the count depends on the order of the rows.",
            example=_earlier_rows,
        ),
        Mistake(
            "open end",
            replies(([0, 299, 300],), [0, 1, 1]),
            "An event exactly 300 seconds old is inside [t - 300, t): drop only what is older.",
            example=lambda times: _last_five_minutes(times, side="right"),
        ),
    ),
    otherwise="Return one count for each event. The times 0, 10, 10, 305 have the counts 0, 1, 1, 2.",
    hints=(
        "Keep one position for the start of the window. It only moves forward.",
        "Before you count, move it past everything older than t - 300.",
        "For ties, keep a second position: the first event whose time is not before t.",
    ),
    solution_code="""
def answer(timestamps):
    counts, start, end = [], 0, 0  # the window is timestamps[start:end]
    for t in timestamps:
        while timestamps[start] < t - 300:
            start += 1
        while timestamps[end] < t:
            end += 1
        counts.append(end - start)
    return counts
""",
    probe=TIMES[0],
)

# ------------------------------------------------------------------ 3 six leaks


def _misspelled(right: Mapping[str, str]) -> Mistake:
    """The mistake of a label that does not exist."""
    kinds = set(right.values())
    message = f"A label is misspelled. Use {', '.join(sorted(kinds))}."
    example = dict.fromkeys(right, "other")
    return Mistake("misspelled", lambda a: not set(tidy(a).values()) <= kinds, message, example)


def _mislabeled(right: Mapping[str, str], key: str, label: str, message: str) -> Mistake:
    """The mistake of giving `label` to `key`."""
    return Mistake(f"{key}: {label}", lambda a: tidy(a)[key] == label, message, {**right, key: label})


_STORY = [
    (
        "chargeback_received",
        "target",
        "is 1 once the bank took the money back: so a fraud is booked.",
    ),
    (
        "mean_amount_over_all_time",
        "future",
        "is the card's mean amount over the whole table, payments after this one included.",
    ),
    (
        "scaler_fitted_on_all_rows",
        "preprocessing",
        "is a step: amounts are scaled by mean and deviation of the whole table, before the split.",
    ),
    (
        "same_card_in_train_and_test",
        "group",
        "is what the split does: different payments of one card lie on both sides.",
    ),
    ("duplicate_rows", "duplicate", "are payments that the log wrote twice, one copy on each side."),
    (
        "target_encoded_merchant",
        "target encoding",
        "is the merchant's share of frauds among the training rows, this row's label among them.",
    ),
    ("amount", "none", "is what the customer wants to pay, known when the model decides."),
    ("hour_of_day", "none", "is the hour of the payment, known when the model decides."),
]
SIX_LEAKS_STORY = (
    "At the moment of a payment, a model must say whether it is fraud, **on cards that it has never seen**. "
    "Its data set:\n\n" + "\n".join(f"- `{name}` {description}" for name, _, description in _STORY)
)
LEAKS = tuple(name for name, *_ in _STORY)
_KINDS = {name: kind for name, kind, _ in _STORY}

six_leaks = Exercise(
    title="six leaks",
    right=lambda a: tidy(a) == _KINDS,
    reason="Ask of each value: who writes it, when, and out of which rows? Two come from the payment itself; "
    "the other six know the label, the future or the test rows.",
    mistakes=(
        _misspelled(_KINDS),
        Mistake(
            "false alarm",
            lambda a: any(_KINDS[key] == "none" != label for key, label in tidy(a).items()),
            "You accuse a harmless feature: it is known when the model decides.",
            example=_KINDS | {"amount": "target"},
        ),
        Mistake(
            "missed",
            lambda a: any(_KINDS[key] != "none" == label for key, label in tidy(a).items()),
            "You let a leak pass. Only two of the eight are harmless.",
            example=_KINDS | {"mean_amount_over_all_time": "none"},
        ),
        _mislabeled(_KINDS, "chargeback_received", "future", "It comes later, but worse: it *is* the label."),
        _mislabeled(
            _KINDS, "target_encoded_merchant", "target", "The merchant is fair; its encoding is the leak."
        ),
        _mislabeled(
            _KINDS,
            "mean_amount_over_all_time",
            "preprocessing",
            "The mean would leak without any test set: it knows later payments. Time is the trouble.",
        ),
        _mislabeled(
            _KINDS,
            "scaler_fitted_on_all_rows",
            "future",
            "The scaler saw the test rows, whatever their time.",
        ),
        _mislabeled(
            _KINDS, "same_card_in_train_and_test", "duplicate", "These rows differ; they share the card only."
        ),
        _mislabeled(_KINDS, "duplicate_rows", "group", "They share more than the card: it is one payment."),
    ),
    otherwise="Each of the six kinds occurs once, and two of the eight are harmless.",
    hints=(
        "Two are harmless: known when the model decides, and computed from this row alone.",
        "Two use the label: one is the label itself, one averages it.",
        "Of the last four, one knows later payments, one is fitted too early, and two come from the split.",
    ),
    solution_code=f"answer = {_KINDS!r}",
)

# ------------------------------------------------------------------ 4 split choice

_SPLIT_FOR = {
    "fraud next week": "temporal",
    "patients of a new hospital": "group",
    "independent lab measurements": "random",
    "films for known users tomorrow": "temporal",
    "spam from senders never seen": "group",
}
SPLITS = tuple(_SPLIT_FOR)


def _random_for(kind: str, example: str, message: str) -> Mistake:
    """The mistake of a random split where a `kind` split is right."""
    return Mistake(
        f"random for {kind}",
        confuses(_SPLIT_FOR, kind, "random"),
        message,
        example=_SPLIT_FOR | {example: "random"},
    )


split_choice = Exercise(
    title="which split?",
    right=lambda a: tidy(a) == _SPLIT_FOR,
    reason="A split imitates the way to production: later rows, new groups, or more of the same.",
    mistakes=(
        _misspelled(_SPLIT_FOR),
        _random_for(
            "temporal",
            "fraud next week",
            "A random split lets the model learn from rows newer than the test. Tomorrow it cannot.",
        ),
        _random_for(
            "group",
            "spam from senders never seen",
            "A random split has the same hospital or sender on both sides: graded on those it knows.",
        ),
        _mislabeled(
            _SPLIT_FOR,
            "films for known users tomorrow",
            "group",
            "Your users are known; tomorrow is what is new.",
        ),
        _mislabeled(
            _SPLIT_FOR,
            "patients of a new hospital",
            "temporal",
            "A later month of the same hospitals is not another hospital. Hold whole hospitals out.",
        ),
        _mislabeled(
            _SPLIT_FOR,
            "spam from senders never seen",
            "temporal",
            "Known senders write tomorrow too. To grade unseen ones, hold whole senders out.",
        ),
        _mislabeled(
            _SPLIT_FOR, "fraud next week", "group", "A split by card tests new cards in the same old weeks."
        ),
        Mistake(
            "more than random",
            lambda a: tidy(a)["independent lab measurements"] != "random",
            "Independent measurements have no order and no groups that matter. Random is enough.",
            example=_SPLIT_FOR | {"independent lab measurements": "temporal"},
        ),
    ),
    otherwise="Ask of each: what will be new in production that the training rows do not have?",
    hints=(
        "What is new in production: the time, the group, or nothing?",
        "Two are temporal, two are by group.",
        "Random is right where rows can be exchanged, as the throws of a coin can.",
    ),
    solution_code=f"answer = {_SPLIT_FOR!r}",
)

# ------------------------------------------------------------------ 5 maturity


def _arrival(scale: float) -> Callable[[ArrayLike], np.ndarray]:
    return lambda age: 1 - np.exp(-np.asarray(age, float) / scale)


Estimate = Callable[[np.ndarray, np.ndarray, Callable], float]


def _older_than(days: int) -> Estimate:
    return lambda c, age, p: c[age >= days].mean()


def _weighted_older_than(days: int) -> Estimate:
    return lambda c, age, p: (c / p(age))[age >= days].mean()


def _drops_young(estimate: Callable[[int], Estimate]) -> Test:
    """Whether an answer is the estimate from the clicks of some age on."""
    return lambda answer: any(same_as(estimate(days), CLICKS)(answer) for days in range(2, 16))


CLICKS = [
    (np.array([0, 0, 1, 0, 0, 1, 0, 1, 1, 0]), np.array([1, 1, 2, 3, 5, 6, 9, 12, 15, 20]), _arrival(5)),
    (np.array([1, 1, 0, 1, 0, 0, 0, 0]), np.array([2, 4, 1, 8, 8, 16, 3, 30]), _arrival(9)),
]

maturity = Exercise(
    title="young labels",
    right=same_as(lambda c, age, p: np.mean(c / p(age)), CLICKS),
    reason="A conversion that had the chance p to have arrived stands for 1 / p of them. Added up over all "
    "clicks, and divided by their number, that is right on average, whatever their ages.",
    mistakes=(
        mistaken("naive", lambda c, age, p: c.mean(), "You count what is still to arrive as a no.", CLICKS),
        mistaken(
            "mean arrival",
            lambda c, age, p: c.mean() / p(age).mean(),
            "One common divisor is right only if clicks of every age convert alike. When the rate moves, old "
            "clicks weigh too much: divide each conversion by its own probability.",
            CLICKS,
        ),
        Mistake(
            "only old rows",
            _drops_young(_older_than),
            "You dropped the young clicks: the newest days are lost, and the others not complete either.",
            example=_older_than(7),
        ),
        Mistake(
            "weighted old rows",
            _drops_young(_weighted_older_than),
            "The weights are right, but you dropped the young clicks. Their weights are there to keep them.",
            example=_weighted_older_than(7),
        ),
        mistaken(
            "total",
            lambda c, age, p: np.sum(c / p(age)),
            "That is how many conversions there will be. Divide by the number of clicks for the rate.",
            CLICKS,
        ),
        mistaken(
            "mean age",
            lambda c, age, p: c.mean() / p(age.mean()),
            "Nobody has the mean age: the probability bends, so that of the mean is not the mean of them. "
            "Divide each conversion by the probability at its own age.",
            CLICKS,
        ),
        mistaken(
            "negatives too",
            lambda c, age, p: np.average(c, weights=1 / p(age)),
            "You weighted the clicks without a conversion as well. Divide by the number of clicks.",
            CLICKS,
        ),
        mistaken(
            "multiplied",
            lambda c, age, p: np.mean(c * p(age)),
            "You multiplied, and the rate fell further. One that arrived early stands for many: divide.",
            CLICKS,
        ),
    ),
    otherwise="By hand: of two clicks one has converted, and half of the conversions arrive by its age. It "
    "stands for two, so the estimate is 2 / 2.",
    hints=(
        "If half arrive by this age, each one that you see stands for two.",
        "Weight the conversions with 1 / arrived_by(age); the rest adds nothing.",
        "Divide the sum of the weights by the number of all clicks.",
    ),
    solution_code="""
def answer(conversions, ages_in_days, arrived_by):
    pairs = zip(conversions, ages_in_days)
    return sum(converted / arrived_by(age) for converted, age in pairs) / len(conversions)
""",
    probe=CLICKS[0],
)

# ------------------------------------------------------------------ 6 parity bug

OFFLINE = pd.DataFrame(
    {
        "request_id": [101, 102, 103, 104, 105, 106, 107, 108],
        "clicks_5min": [0.0, 1.0, 3.0, 0.0, 2.0, 5.0, 1.0, 4.0],
        "watch_share_5min": [0.4, 0.9, 0.6, 0.1, np.nan, 0.7, 0.3, 0.8],
        "user_ctr": [0.10, 0.12, 0.25, 0.08, 0.15, 0.31, 0.11, 0.22],
    }
)
ONLINE = OFFLINE.assign(
    clicks_5min=np.roll(OFFLINE["clicks_5min"], 1),  # the join key is off by one
    user_ctr=OFFLINE["user_ctr"] + 1e-12,
).sample(frac=1, random_state=0, ignore_index=True)
REVERSED = (OFFLINE[:4], OFFLINE[3::-1].reset_index(drop=True))


def _pair(offline: Sequence[float], online: Sequence[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables that agree in everything but `clicks_5min`."""
    table = OFFLINE.head(len(offline))
    return table.assign(clicks_5min=offline), table.assign(clicks_5min=online)


def _unequal(a: pd.DataFrame, b: pd.DataFrame, **rule: Any) -> set[str]:
    """The columns that differ, row by row as they stand."""
    return set(a.columns[~np.isclose(a, b, **{"equal_nan": True} | rule).all(axis=0)])


def _different(offline: pd.DataFrame, online: pd.DataFrame, **rule: Any) -> set[str]:
    a = offline.set_index("request_id")
    return _unequal(a, online.set_index("request_id").loc[a.index, a.columns], **rule)


def _reports(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Test:
    return replies(tables, "clicks_5min", lambda names, name: name in set(names))


def _same_names(a: Collection[str], b: Collection[str]) -> bool:
    return set(a) == set(b)


MEANS, SWAP, GAP = _pair([1, 3], [2, 2]), _pair([1, 2], [2, 1]), _pair([np.nan, 1], [0, 1])
FAR = _pair([1, 1], [9, 9])
NO_GAP, ROUNDED = _pair([np.nan, 1], [np.nan, 1]), _pair([0.3, 1], [0.1 + 0.2, 1])

parity_bug = Exercise(
    title="the parity bug",
    right=same_as(_different, [(OFFLINE, ONLINE), REVERSED, MEANS, SWAP, GAP, NO_GAP, ROUNDED], _same_names),
    reason="Only a comparison row by row, matched by key, sees a value that stands at its neighbor's key. "
    "Its distribution is the same to the last digit.",
    mistakes=(
        Mistake(
            "typed in",
            lambda answer: set(answer(OFFLINE, OFFLINE)) == set(answer(*FAR)),
            "You give the same names whatever the tables hold, equal or not. Compare the two arguments.",
            example=lambda a, b: ["clicks_5min"],
        ),
        Mistake(
            "by position",
            _reports(REVERSED),
            "You compare by position: equal tables in another row order differ. Match by `request_id`.",
            example=_unequal,
        ),
        Mistake(
            "means",
            replies(MEANS, set(), _same_names),
            "You compare means or another summary. They agree although the rows differ.",
            example=lambda a, b: _unequal(a.agg(["mean"]), b.agg(["mean"])),
        ),
        Mistake(
            "distributions",
            replies(SWAP, set(), _same_names),
            "You compare distributions: two rows that swap their values look the same.",
            example=lambda a, b: _unequal(a.apply(np.sort), b.apply(np.sort)),
        ),
        Mistake(
            "missing twice",
            _reports(NO_GAP),
            "A value that is missing in both tables is no difference, but NaN != NaN.",
            example=lambda a, b: _different(a, b, equal_nan=False),
        ),
        Mistake(
            "missing once",
            replies(GAP, set(), _same_names),
            "Missing here and 0 there is a difference. Fill nothing in; |NaN - 0| > tolerance is False.",
            example=lambda a, b: _different(a.fillna(0), b.fillna(0)),
        ),
        Mistake(
            "exact",
            _reports(ROUNDED),
            "You report rounding in the last digit. Compare floating-point numbers with a tolerance.",
            example=lambda a, b: _different(a, b, rtol=0, atol=0),
        ),
    ),
    otherwise="Return a set of names of features, such as `{'user_ctr'}`; the key is not a feature.",
    hints=(
        "Set `request_id` as the index of both tables, then bring them into the same order.",
        "`np.isclose` has a tolerance and `equal_nan`.",
        "A feature differs if not all of its rows are close.",
    ),
    solution_code="""
import numpy as np

def answer(offline, online):
    a = offline.set_index("request_id").sort_index()
    b = online.set_index("request_id").sort_index()
    return {name for name in a if not np.isclose(a[name], b[name], equal_nan=True).all()}
""",
    probe=(OFFLINE, ONLINE),
)

# ------------------------------------------------------------------ 7 k-anonymity

QUASI = ["zip3", "age_band", "sex"]
_GROUPS = [
    (1, ("101", "20-39", "f")),
    (2, ("101", "40-59", "m")),
    (4, ("102", "20-39", "f")),
    (3, ("102", "20-39", "m")),
    (5, ("102", "40-59", "f")),
    (2, ("102", "40-59", "m")),
]
PEOPLE = pd.DataFrame([group for people, group in _GROUPS for _ in range(people)], columns=QUASI).sample(
    frac=1, random_state=0, ignore_index=True
)
SIZES = PEOPLE.value_counts()
KEEP = {"age_band", "sex"}


def _columns(keep: str | Collection[str]) -> set[str]:
    return {keep} if isinstance(keep, str) else set(keep)


def _wrong_k(name: str, k: float, message: str) -> Mistake:
    return Mistake(name, lambda a: near(k)(a["k"]), message, example={"k": k, "keep": KEEP})


k_anonymity = Exercise(
    title="hide in a crowd",
    right=lambda a: near(SIZES.min())(a["k"]) and _columns(a["keep"]) == KEEP,
    reason="k is the size of the smallest group: one person stands alone, so k is 1. Without the zip code "
    "everybody has at least two others like them.",
    mistakes=(
        _wrong_k("average", SIZES.mean(), "That is the average group. k is a promise to everybody."),
        _wrong_k("largest", SIZES.max(), "That is the largest group. The smallest is found first."),
        _wrong_k("groups", len(SIZES), "That is the number of groups. k counts people."),
        _wrong_k("singleton", SIZES[SIZES > 1].min(), "Somebody is alone in a group: you overlooked them."),
        Mistake(
            "all columns",
            lambda a: _columns(a["keep"]) == set(QUASI),
            "You keep all columns, and with them the smallest group stays below three.",
            example={"k": 1, "keep": QUASI},
        ),
        Mistake(
            "too few",
            lambda a: len(_columns(a["keep"])) < len(KEEP),
            "You drop more than you must. One pair of columns keeps everybody in a group of three.",
            example={"k": 1, "keep": []},
        ),
        Mistake(
            "wrong pair",
            lambda a: "zip3" in _columns(a["keep"]),
            "With the zip code and one more column somebody is still alone. Count each pair.",
            example={"k": 1, "keep": ["zip3", "sex"]},
        ),
    ),
    otherwise="`PEOPLE.groupby(columns).size()` shows the groups. Name the columns to keep in a list.",
    hints=(
        "Group by the three columns and count; k is the minimum.",
        "Then try the three pairs: which has a minimum of three or more?",
    ),
    solution_code="""
from itertools import combinations

from helpers.exercises.data_and_features import PEOPLE

def k(columns):
    return PEOPLE.groupby(list(columns)).size().min()

everything = ["zip3", "age_band", "sex"]
keep = next(pair for pair in combinations(everything, 2) if k(pair) >= 3)
answer = {"k": k(everything), "keep": keep}
""",
)

# ------------------------------------------------------------------ 8 erasure

PLACES = {
    "raw log": "one row an impression, with the user's id",
    "feature table": "one row an impression, computed from the raw log",
    "online store": "counts and last times of each user, read by the ranker",
    "training set": "rows drawn from log and features, kept to repeat a training",
    "backups": "nightly copies that expire on a noted date; single rows cannot be deleted from them",
    "pseudonymized log": "the raw log with a keyed hash of the id; you hold the key",
    "aggregates": "daily totals over thousands of users; nobody can be singled out",
    "model weights": "trained on the training set",
    "monitoring samples": "rows of requests, kept to look at drift",
    "video catalogue": "public titles, topics and durations",
}
ERASED = set(PLACES) - {"aggregates", "video catalogue"}


def _misplaced(names: set[str], message: str) -> Mistake:
    """The mistake of one of these places among the erased, or not among them, against the truth."""
    return Mistake(
        ", ".join(sorted(names)), lambda a: bool((set(a) ^ ERASED) & names), message, example=ERASED ^ names
    )


erasure = Exercise(
    title="erase one user",
    right=lambda places: set(places) == ERASED,
    reason="Rows go wherever they were copied, under a pseudonym too: who holds the key can find the person. "
    "Backups expire by their date, and the erasure is repeated after each restore. For the weights you "
    "retrain, or decide on evidence that you need not, and write it down. Totals in which nobody can be "
    "singled out, and the catalogue, hold nothing that leads to this user.",
    mistakes=(
        Mistake(
            "unknown place",
            lambda places: not set(places) <= set(PLACES),
            "Give a set of names from the list, such as `{'raw log', 'backups'}`.",
            example={"raw log", "archive"},
        ),
        Mistake(
            "raw log only",
            lambda places: set(places) == {"raw log"},
            "The raw log is where it begins. Follow each row: who read it, and who kept a copy?",
            example=["raw log"],
        ),
        _misplaced({"video catalogue"}, "The catalogue describes videos. It holds nothing of this user."),
        _misplaced(
            {"aggregates"},
            "Totals over thousands of users lead back to nobody, and may stay. Totals over a few may not.",
        ),
        _misplaced(
            {"pseudonymized log"},
            "You forgot the pseudonymized log. The key leads back to the person, so it is personal data.",
        ),
        _misplaced(
            {"raw log", "feature table", "online store", "training set", "monitoring samples"},
            "A copy is left: rows of this user also lie where they are served, trained on or looked at.",
        ),
        _misplaced(
            {"backups"},
            "You forgot the backups. You cannot edit them, but note the erasure; repeat it after a restore.",
        ),
        _misplaced(
            {"model weights"},
            "You forgot the model. Weights can remember training rows: retrain, or decide and document.",
        ),
    ),
    otherwise="Start at the raw log and follow the rows of this user through every job that copies them.",
    hints=(
        "To touch a place is to delete rows there, or to act and write down what was decided.",
        "Is a pseudonym anonymous to somebody who holds the key?",
        "Two of the ten hold nothing that leads to this user.",
    ),
    solution_code=f"""
places = {list(PLACES)!r}
answer = set(places) - {{"aggregates", "video catalogue"}}
""",
)

ALL = (as_of_join, streaming_window, six_leaks, split_choice, maturity, parity_bug, k_anonymity, erasure)
