"""Release gates: what a new release must pass before anybody sees it; and the shadow, which sees more.

Six gates judge a candidate against the current release on impressions that neither has learned from. Limits
are set beforehand, and where chance plays a part, a gate looks at an interval: the metric gate demands that
harm beyond its margin is excluded; the slice and the calibration gate stop what is surely wrong, since their
intervals are too wide to exclude it. `candidates` makes a good release and six with one defect each, such as
happen, one for each gate.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit

from helpers.feature_store import OnlineStore
from helpers.features import Feature
from helpers.metrics import mean_interval, query_auc
from helpers.rankers import calibration_by_slice, log_losses, slices
from helpers.releases import (
    COLUMNS,
    LIVE,
    NIGHTLY,
    Release,
    assemble,
    categories,
    encode,
    last_days,
    open_store,
    train_ranker,
    training_table,
)
from helpers.request_path import choose
from helpers.shifts import whole
from helpers.simulator import Platform

AUC_MARGIN = 0.015  # of the mean ROC-AUC within a user; the interval of 400 users is about 0.01 wide
SLICE_ALPHA, SLICE_USERS = 0.05, 30  # over all slices together; and the users that make a slice
CALIBRATION = (0.9, 1.1)  # expected clicks over clicks
SLOWER = 1.5  # times the current release, in the median request
PARITY_TOLERANCE, PARITY_SHARE = 1e-3, 0.001
MISSING_MORE, SCALE = 0.05, 3.0  # share of missing values, and factor of the mean size, of a column
SMALLEST = 1e-9  # mean size of a column of zeros
SLICE_COLUMNS = ("user_country", "user_device", "user_language", "user_age_band")
OF_THE_NIGHT = (*(f.name for f in NIGHTLY), "similarity")
LOST = "JP"  # the country whose clicks a defective pipeline loses
KEPT = 0.25  # share of the impressions without a click that another one keeps

Clock = Callable[[], float]


class Verdict(NamedTuple):
    """What a gate found: the number of the candidate, that of the current release, and why."""

    passed: bool
    candidate: float
    current: float
    reason: str


def judged_rows(platform: Platform, log: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    """Return the impressions from `since` on with the features that the ranker reads, and what came of them.

    log: with the days before, from which the features come. Judge releases on days after their `as_of`.
    """
    table = training_table(platform, log, since)
    return table.join(log[["timestamp", "user_id", "video_id", "clicked"]])


def gates(
    candidate: Release, current: Release, rows: pd.DataFrame, clock: Clock = time.perf_counter
) -> pd.DataFrame:
    """Return the verdict of each gate, a row a gate: passed, candidate, current, reason.

    rows: from `judged_rows`, of the day after the night of the candidate. The gates are independent: a
    defect may fail several, and a candidate may be released if it passes all.

    Raises ValueError for rows that are not later than what a release has learned from.
    """
    for release in (candidate, current):
        if rows["timestamp"].min() < release.as_of:
            raise ValueError(
                f"The rows begin at {rows['timestamp'].min()}, and release {release.version!r} has learned "
                f"up to {release.as_of}: judge it on later ones."
            )
    scores = [offline_scores(release, rows) for release in (candidate, current)]
    verdicts = {
        "data": data_gate(candidate, current),
        "parity": parity_gate(candidate, current, rows),
        "metric": metric_gate(*scores, rows),
        "slice": slice_gate(*scores, rows),
        "calibration": calibration_gate(*scores, rows),
        "latency": latency_gate(*milliseconds(candidate, current, rows, clock)),
    }
    return pd.DataFrame.from_dict(verdicts, orient="index", columns=Verdict._fields).rename_axis("gate")


def offline_scores(release: Release, rows: pd.DataFrame) -> np.ndarray:
    """Return P(click) of each row by the ranker of a release, from features computed offline."""
    return release.score(encode(rows[[*COLUMNS]], release.categories))


# ---------------------------------------------------------------- the gates


def data_gate(candidate: Release, current: Release) -> Verdict:
    """Fail if a column of the nightly tables has lost its values or changed its scale; names the worst one.

    The numbers are the larger of two: how much more is missing, over `MISSING_MORE`; and by what factor the
    mean size has grown or shrunk, as a logarithm over that of `SCALE`. Above 1 is a failure. Features of the
    last minutes are left out: at midnight hardly anybody has any.
    """
    new, old = _columns(candidate), _columns(current)
    missing = (new["missing"] - old["missing"]) / MISSING_MORE
    scale = np.abs(np.log(new["size"] / old["size"])) / np.log(SCALE)
    found = np.maximum(missing, scale)
    worst = found.idxmax()
    reason = (
        f"{worst}: {new['missing'][worst]:.0%} missing against {old['missing'][worst]:.0%}, mean size "
        f"{new['size'][worst]:.3g} against {old['size'][worst]:.3g}"
    )
    return Verdict(bool(found[worst] <= 1), float(found[worst]), 0.0, reason)


def _columns(release: Release) -> pd.DataFrame:
    """Of each column of the nightly tables, the share of missing values and the mean size of the others."""
    tables = zip((LIVE, NIGHTLY), (release.profiles.reshape(-1, len(LIVE)), release.items), strict=True)
    facts = {
        feature.name: (np.isnan(column).mean(), _mean_size(column))
        for features, table in tables
        for feature, column in zip(features, table.T, strict=True)
        if feature.window is None and feature.aggregation != "seconds_since"
    }
    return pd.DataFrame.from_dict(facts, orient="index", columns=["missing", "size"])


def _mean_size(column: np.ndarray) -> float:
    """The mean absolute value of what is there; never 0, so that sizes can be divided."""
    present = np.abs(column[~np.isnan(column)])
    return max(SMALLEST, float(present.mean())) if len(present) else SMALLEST


def parity_gate(candidate: Release, current: Release, rows: pd.DataFrame) -> Verdict:
    """Fail if what the candidate would serve is not what is computed offline for the same impressions.

    Compares the features of the night, of the videos that the candidate has: the live ones come from the
    store, whatever the release. The numbers are shares of rows of the worst column; the current release is
    a night older, so its share says how fast the features age.
    """
    new, old = _differing(candidate, rows), _differing(current, rows)
    worst = new.idxmax()
    reason = f"{worst} differs in {new[worst]:.1%} of the rows from what is computed offline"
    return Verdict(bool(new[worst] <= PARITY_SHARE), float(new[worst]), float(old[worst]), reason)


def _differing(release: Release, rows: pd.DataFrame) -> pd.Series:
    """The share of rows in which each feature of the night differs."""
    rows = rows[rows["video_id"] < len(release.items)]
    users, videos = rows["user_id"].to_numpy(), rows["video_id"].to_numpy()
    similarity = (release.user_vectors[users] * release.video_vectors[videos]).sum(axis=1)
    served = np.column_stack([release.items[videos], similarity])
    offline = encode(rows[[*OF_THE_NIGHT]], release.categories)
    near = np.isclose(served, offline, rtol=PARITY_TOLERANCE, atol=PARITY_TOLERANCE, equal_nan=True)
    return pd.Series(1 - near.mean(axis=0), index=OF_THE_NIGHT)


def metric_gate(new: np.ndarray, old: np.ndarray, rows: pd.DataFrame) -> Verdict:
    """Fail unless the interval excludes that a user's impressions are ordered worse by more than the margin.

    The metric is the mean ROC-AUC within a user: over all rows, a model that knows only who clicks a lot
    would look good. Passes if the low end of the interval of the difference is at least -`AUC_MARGIN`; so
    few users, whose interval is wide, stop any candidate.
    """
    tables = [query_auc(rows["clicked"], scores, rows["user_id"])["auc"] for scores in (new, old)]
    difference = mean_interval(tables[0] - tables[1])
    reason = f"ROC-AUC within a user changes by {difference:+.3f}; {-AUC_MARGIN} is the margin"
    return Verdict(
        bool(difference.low >= -AUC_MARGIN), float(tables[0].mean()), float(tables[1].mean()), reason
    )


def slice_gate(new: np.ndarray, old: np.ndarray, rows: pd.DataFrame) -> Verdict:
    """Fail if the candidate is surely worse for a country, device, language or age band; names the worst.

    By the log-loss, of both after their total is made right: the total has a gate of its own. The level of
    the test holds for all slices together (Holm); the numbers are the log-losses in the slice.
    """
    losses = [log_losses(rows["clicked"], _right_total(scores, rows["clicked"])) for scores in (new, old)]
    found = slices(rows, losses[1], losses[0], SLICE_COLUMNS, unit=rows["user_id"], min_units=SLICE_USERS)
    harmed = found[(found["p_adjusted"] < SLICE_ALPHA) & (found["difference"] > 0)]
    worst = (harmed if len(harmed) else found).iloc[0]
    inside = (rows[worst["column"]].astype("str") == worst["value"]).to_numpy()
    reason = (
        f"{worst['column']} = {worst['value']}: log-loss {worst['difference']:+.4f} "
        f"[{worst['low']:+.4f}, {worst['high']:+.4f}]"
    )
    return Verdict(harmed.empty, float(losses[0][inside].mean()), float(losses[1][inside].mean()), reason)


def _right_total(scores: np.ndarray, clicked: pd.Series) -> np.ndarray:
    """The probabilities with their log-odds moved so far that they add up to the clicks."""
    odds, total = logit(scores), clicked.sum()
    return expit(odds + brentq(lambda step: expit(odds + step).sum() - total, -20, 20))


def calibration_gate(new: np.ndarray, old: np.ndarray, rows: pd.DataFrame) -> Verdict:
    """Fail if the candidate surely expects too many or too few clicks: its interval is outside the range."""
    tables = [
        calibration_by_slice(rows["clicked"], scores, np.zeros(len(rows))).iloc[0] for scores in (new, old)
    ]
    low, high = CALIBRATION
    passed = tables[0]["ratio_high"] >= low and tables[0]["ratio_low"] <= high
    reason = (
        f"expected over observed clicks {tables[0]['ratio']:.2f} [{tables[0]['ratio_low']:.2f}, "
        f"{tables[0]['ratio_high']:.2f}]; {low} to {high} is allowed"
    )
    return Verdict(bool(passed), float(tables[0]["ratio"]), float(tables[1]["ratio"]), reason)


def latency_gate(new: np.ndarray, old: np.ndarray) -> Verdict:
    """Fail if the candidate takes more than `SLOWER` times as long, in the median of the requests.

    new, old: milliseconds of the same requests, shape (requests,). The times are divided request by request:
    a busy spell of the machine slows both sides of a ratio.
    """
    times = float(np.median(new / old))
    medians = float(np.median(new)), float(np.median(old))
    reason = (
        f"{times:.2f} times as long, in the median {medians[0]:.2f} ms against {medians[1]:.2f}; {SLOWER} "
        f"times is allowed"
    )
    return Verdict(times <= SLOWER, *medians, reason)


def milliseconds(
    candidate: Release,
    current: Release,
    rows: pd.DataFrame,
    clock: Clock = time.perf_counter,
    requests: int = 50,
) -> np.ndarray:
    """Return how long two releases take to search and score for some of the users of the rows, shape (2, n).

    They answer each request in turn, right one after the other, and take turns in who begins.
    """
    releases = (candidate, current)
    for release in releases:
        release.warm_up()
    users = rows["user_id"].unique()[: whole("requests", requests, 1)].tolist()
    times = np.empty((2, len(users)))
    for number, user in enumerate(users):
        for side in (number % 2, 1 - number % 2):
            times[side, number] = _milliseconds(releases[side], user, clock)
    return times


def _milliseconds(release: Release, user: int, clock: Clock) -> float:
    start = clock()
    ids = release.search(user)
    release.score(release.table(user, release.profiles[user], ids, release.as_of))
    return 1_000 * (clock() - start)


# ---------------------------------------------------------------- candidates with a defect


def candidates(
    platform: Platform, log: pd.DataFrame, *, days: int = 6, trees: int = 100, seed: int = 0
) -> dict[str, Release]:
    """Return a good release of this log, and six with a defect each, by the gate that must catch it.

    | candidate | what happened |
    |---|---|
    | good | nothing: it learned from other days than the current release, so chance tells them apart |
    | data | the player reported seconds watched in milliseconds to the tables of the night |
    | parity | the job that writes those tables smooths the rate of creators less than training did |
    | metric | the clicks were joined to the wrong impressions |
    | slice | the clicks of one country never arrived |
    | calibration | most impressions without a click were dropped to save time, and nobody took it back |
    | latency | somebody asked for ten times as many candidates |

    days, trees, seed: as for `build_release`, which learns from fewer days by default; gates that compare
    a release with itself would not be tested. The version of a release is its name here.

    Raises ValueError for a log of fewer days.
    """
    rng, levels = np.random.default_rng(seed), categories(platform)
    table = last_days(platform, log, days)
    numbers, clicked = encode(table, levels), log.loc[table.index, "clicked"].to_numpy()
    lost, kept = (table["user_country"] == LOST).to_numpy(), clicked | (rng.random(len(clicked)) < KEPT)
    good = assemble(platform, log, "good", train_ranker(numbers, clicked, trees, seed), seed=seed)

    def trained(version: str, numbers: np.ndarray, clicked: np.ndarray) -> Release:
        return replace(good, version=version, ranker=train_ranker(numbers, clicked, trees, seed))

    return {
        "good": good,
        "data": replace(
            good,
            version="data",
            items=_changed(good.items, NIGHTLY, "video_watch_share", lambda share: 1_000 * share),
            profiles=_changed(good.profiles, LIVE, "user_watch_share", lambda share: 1_000 * share),
        ),
        "parity": replace(
            good,
            version="parity",
            items=_changed(good.items, NIGHTLY, "creator_ctr", lambda rate: 2 * rate - rate.mean()),
        ),
        "metric": trained("metric", numbers, rng.permutation(clicked)),
        "slice": trained("slice", numbers, clicked & ~lost),
        "calibration": trained("calibration", numbers[kept], clicked[kept]),
        "latency": replace(good, version="latency", candidates=min(10 * good.candidates, len(good.items))),
    }


def _changed(
    table: np.ndarray, features: Sequence[Feature], name: str, change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """A copy of a table in which one feature is changed."""
    table, column = table.copy(), [f.name for f in features].index(name)
    table[..., column] = change(table[..., column])
    return table


# ---------------------------------------------------------------- shadow


class Shadow(NamedTuple):
    """What a second release would have answered to the same requests.

    requests: one row a request: `request_id`, `user_id`; `overlap`, the share of the list that both show;
    `same_first`; `score` and `shadow_score`, the mean P(click) each gives to its own list.
    features: one row a feature, of the same videos under both releases: `different`, the share of rows;
    `mean` and `shadow_mean`. The most different comes first.
    """

    requests: pd.DataFrame
    features: pd.DataFrame


def shadow(
    directory: str | Path, current: Release, candidate: Release, served: pd.DataFrame, tolerance: float = 0.01
) -> Shadow:
    """Score requests that were served with a second release, which nobody sees; return the differences.

    served: from `read_served`. Both releases read the store as of the time of the request, so it must not
    have newer events than its lateness. A feature is different beyond the share `tolerance` of its value.
    A shadow finds a feature that is wrong before any user does. What users would have done it cannot see.

    Raises ValueError for a log without requests, or for times that the store no longer knows.
    """
    asked = served.groupby("request_id").agg(
        user_id=("user_id", "first"), at=("timestamp", "first"), k=("position", "max")
    )
    if asked.empty:
        raise ValueError("Nothing was served yet: send some requests first.")
    rows, tables = [], []
    with open_store(directory) as store:
        for request_id, user, at, k in asked.reset_index().itertuples(index=False):
            lists = [_listed(release, store, request_id, user, at, k) for release in (current, candidate)]
            (ids, table, score), (others, _, shadow_score) = lists
            profile = candidate.read(store, user, at)
            tables.append((table, candidate.table(user, profile, ids, at)))
            rows.append(
                {
                    "request_id": request_id,
                    "user_id": user,
                    "overlap": np.isin(ids, others).mean(),
                    "same_first": ids[0] == others[0],
                    "score": score,
                    "shadow_score": shadow_score,
                }
            )
    return Shadow(
        pd.DataFrame(rows), _feature_differences(*map(np.concatenate, zip(*tables, strict=True)), tolerance)
    )


def _listed(
    release: Release, store: OnlineStore, request_id: int, user: int, at: pd.Timestamp, k: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """What a release would show, what its ranker reads of it, and the mean P(click) of it."""
    ids = release.search(user)
    table = release.table(user, release.read(store, user, at), ids, at)
    scores = release.score(table)
    shown, _ = choose(release, request_id, ids, scores, k)
    return ids[shown], table[shown], float(scores[shown].mean())


def _feature_differences(table: np.ndarray, other: np.ndarray, tolerance: float) -> pd.DataFrame:
    near = np.isclose(table, other, rtol=tolerance, atol=1e-9, equal_nan=True)
    found = pd.DataFrame(
        {
            "different": 1 - near.mean(axis=0),
            "mean": pd.DataFrame(table).mean().to_numpy(),
            "shadow_mean": pd.DataFrame(other).mean().to_numpy(),
        },
        index=pd.Index(COLUMNS, name="feature"),
    )
    return found.sort_values("different", ascending=False, kind="stable")
