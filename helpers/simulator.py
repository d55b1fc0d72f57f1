"""A video platform whose truth is known: users come, a policy ranks videos, users react, a log is written.

Everything follows from one seed: the same platform gives the same bytes. What a real platform never knows can
be asked: the true click probability, the true satisfaction, the true value of a policy.
`world` documents how people behave, `shifts` what can change or break. Times are UTC, without a zone.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from math import isqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import ArrayLike

from helpers.datasets import table
from helpers.shifts import Shift, choice, share, whole
from helpers.world import DAY_SECONDS, EXAMINATION, LONGEST_SECONDS, OBJECTIVES, START, World, duration

Policy = Callable[[pd.DataFrame, np.ndarray], tuple[np.ndarray, np.ndarray]]
Scores = Callable[[pd.DataFrame, np.ndarray], np.ndarray]

REQUESTS_A_DAY = 10**9  # more than there can be; the request ids of a day begin at day * REQUESTS_A_DAY
HOUR_WEIGHTS = (3, 2, 1, 1, 1, 2, 4, 6, 6, 5, 5, 6, 8, 7, 6, 6, 7, 8, 10, 13, 15, 14, 10, 6)  # midnight first
GAP_SECONDS = 90  # on average between two requests of a visit

IMPRESSION_LOG = table(
    timestamp=pa.Column("datetime64[us]", pa.Check.ge(START)),
    request_id=pa.Column("int64", pa.Check.ge(0)),
    user_id=pa.Column("int32", pa.Check.ge(0)),
    video_id=pa.Column("int32", pa.Check.ge(0)),
    position=pa.Column("int16", pa.Check.ge(1)),
    propensity=pa.Column("float32", pa.Check.in_range(0, 1, include_min=False)),
    clicked=pa.Column(bool),
    watch_seconds=pa.Column("float32", pa.Check.in_range(0, LONGEST_SECONDS)),
    liked=pa.Column(bool),
    dismissed=pa.Column(bool),
    policy=pa.Column("category"),
    model_version=pa.Column("category"),
)


# ---------------------------------------------------------------- coins


def coins(seed: int, *keys: ArrayLike) -> np.ndarray:
    """Return 64 random bits for each combination of whole keys >= 0, which broadcast; always the same bits.

    The coins of a request do not depend on the requests beside it: they can be tossed again, one by one.
    Source: SplitMix64 of Steele, Lea and Flood 2014, started anew at each key.
    """
    bits = np.array([seed], dtype="uint64")
    for key in keys:
        bits = bits + np.asarray(key).astype("uint64") + 0x9E3779B97F4A7C15
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB
        bits = bits ^ (bits >> 31)
    return bits


def uniform(seed: int, *keys: ArrayLike) -> np.ndarray:
    """Return `coins` as numbers in [0, 1)."""
    return (coins(seed, *keys) >> 11) * 2.0**-53


# ---------------------------------------------------------------- policies


def score_policy(scores: ArrayLike | Scores, epsilon: float = 0.0, seed: int = 0) -> Policy:
    """Return a policy that ranks by falling score; with probability `epsilon` it shuffles all instead.

    scores: one a video, shape (n_videos,), or a function (requests, candidates) -> scores like candidates.
    Equal scores keep the order of the candidates.

    A propensity is the probability, given the request and its n candidates, of this video at this position:
    epsilon / n, plus 1 - epsilon if the ranking by score has it there.

    Raises ValueError if `epsilon` is not in [0, 1].
    """
    share("epsilon", epsilon)
    score = scores if callable(scores) else lambda requests, candidates: np.asarray(scores)[candidates]

    def rank(requests: pd.DataFrame, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids, n = requests["request_id"].to_numpy()[:, None], candidates.shape[1]
        best = np.argsort(-score(requests, candidates), axis=1, kind="stable")
        explores = uniform(seed, 0, ids)[:, 0] < epsilon
        order = best.copy()
        order[explores] = np.argsort(coins(seed, 1, ids[explores], np.arange(n)), axis=1)
        propensities = epsilon / n + (1 - epsilon) * (order == best)
        return np.take_along_axis(candidates, order, axis=1), propensities

    return rank


def random_policy(seed: int = 0) -> Policy:
    """Return a policy that shuffles its n candidates; every propensity is 1 / n."""
    return score_policy(lambda requests, candidates: np.zeros(candidates.shape), epsilon=1, seed=seed)


def popular_policy(log: pd.DataFrame, n_videos: int, epsilon: float = 0.0, seed: int = 0) -> Policy:
    """Return a `score_policy` whose score is the number of clicks in the log."""
    clicks = np.bincount(log["video_id"][log["clicked"]], minlength=n_videos)
    return score_policy(clicks, epsilon, seed)


# ---------------------------------------------------------------- the platform


class Value(NamedTuple):
    """A mean per request and its standard error, in the unit of the objective."""

    value: float
    standard_error: float


class Platform(World):
    """A `World` with traffic: its users ask, a policy answers, a log is written.

    Parameters
    ----------
    n_users, n_videos, n_topics, n_creators
        How many there are. `World` describes the tables `users` and `videos` and the model of behavior.
    days
        Length of the calendar; day 0 begins at `START`.
    n_candidates, n_slots
        Videos that a policy is offered for a request, and how many of them are shown.
    seed
        Everything follows from it.

    `examination_curve` holds P(examined) at positions 1, 2, ..., shape (n_slots,).
    Raises ValueError for a size that makes no sense.
    """

    def __init__(
        self,
        n_users: int = 20_000,
        n_videos: int = 5_000,
        n_topics: int = 12,
        n_creators: int = 500,
        days: int = 56,
        n_candidates: int = 50,
        n_slots: int = 10,
        seed: int = 0,
    ) -> None:
        """Draw the world, prepare the traffic."""
        super().__init__(n_users, n_videos, n_topics, n_creators, days, seed)
        there = int(self.n_available(0))
        self.n_candidates = whole(f"n_candidates, of {there} videos on day 0,", n_candidates, 1, there)
        self.n_slots = whole(f"n_slots, of {n_candidates} candidates,", n_slots, 1, n_candidates)
        self.examination_curve = np.arange(1, n_slots + 1, dtype="float32") ** np.float32(-EXAMINATION)
        self._steps = _primes(n_videos, 2 * n_videos)
        self._older = self._older_half(self.rng("halves"))

    def _older_half(self, rng: np.random.Generator) -> np.ndarray:
        """Whether each user is in the older half of the audience, counted in expected requests."""
        requests = self.users["return_probability"] * (1 + self.users["requests_per_visit"])
        order = np.lexsort([rng.random(self.n_users), self._age])  # at random within an age band
        older = np.cumsum(requests.to_numpy()[order]) > requests.sum() / 2
        return older[np.argsort(order)]

    def shifted(self, kind: str, strength: float, day: int) -> "Platform":
        """Return the same platform, on which a `Shift` happens from the start of `day` on.

        Whatever it answers, the truth included, is of the shifted world.
        Raises ValueError as `Shift` does, or if there are too few videos for joint_only.
        """
        if kind == "joint_only":
            there = int(self.n_available(0))
            whole(f"2 n_candidates, of {there} videos on day 0,", 2 * self.n_candidates, 2, there)
        platform = copy.copy(self)
        platform.shift = Shift(kind, strength, day)
        return platform

    # ------------------------------------------------------------ requests and candidates

    def requests(self, day: int, regret: ArrayLike = 0.0) -> pd.DataFrame:
        """Return a day's requests in order of time: `request_id, timestamp, user_id` and the hidden `mood`.

        regret: R of each user, shape (n_users,). Raises ValueError for a day that is not in the calendar.
        """
        rng = self.rng("visits", whole("day", day, 0, self.days - 1))
        visitors = np.flatnonzero(rng.random(self.n_users) < self.return_probability(day, regret))
        visit, seconds = self._visits(rng, self.users["requests_per_visit"].to_numpy()[visitors])
        mood = self._moods(rng, visitors, day)
        order = np.argsort(seconds, kind="stable")
        return pd.DataFrame(
            {
                "request_id": day * REQUESTS_A_DAY + np.arange(len(order)),
                "timestamp": START + duration(day * DAY_SECONDS + seconds[order]),
                "user_id": visitors[visit[order]].astype("int32"),
                "mood": mood[visit[order]].astype("int16"),
            }
        )

    def _visits(self, rng: np.random.Generator, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The visit and the second of the day of each request; more: mean requests after the first."""
        n = 1 + rng.poisson(more)
        last = np.cumsum(n) - 1
        visit = np.repeat(np.arange(len(n)), n)
        clock = np.cumsum(rng.exponential(GAP_SECONDS, len(visit)))
        elapsed = clock - clock[last - n + 1][visit]
        hours = np.append(0, np.cumsum(HOUR_WEIGHTS)) / sum(HOUR_WEIGHTS)
        start = np.interp(rng.random(len(n)), hours, np.linspace(0, DAY_SECONDS, len(hours)))
        latest = DAY_SECONDS - 1 - elapsed[last]  # so that a visit ends before midnight
        return visit, np.minimum(start, latest)[visit] + elapsed

    def _moods(self, rng: np.random.Generator, visitors: np.ndarray, day: int) -> np.ndarray:
        """A topic for each visit, drawn from softmax(taste): the largest after Gumbel noise."""
        taste = self.taste(visitors[:, None], np.arange(self.n_topics), day)
        return np.argmax(taste + rng.gumbel(size=taste.shape), axis=1)

    def candidates(self, requests: pd.DataFrame) -> np.ndarray:
        """Return the videos offered for each request, int32, shape (requests, n_candidates), all different.

        Every available video is equally likely. Only `request_id` (for joint_only also `user_id`) is read:
        the candidates of a request in a log can be had again.
        """
        offered, strength = self._walk(requests, 0), self.strength("joint_only", _day(requests))
        if not strength.any():
            return offered
        others = self._walk(requests, self.n_candidates)
        older = self._older[requests["user_id"].to_numpy()[:, None]]
        struck = uniform(self.seed, 2, requests["request_id"].to_numpy()[:, None]) < strength
        # Of two random videos one half of the audience gets the lower topic, the other half the higher one:
        # taken together that is one of the two at random, so the marginal stays.
        swap = struck & ((self._topic[offered] > self._topic[others]) == older)
        return np.where(swap, others, offered)

    def _walk(self, requests: pd.DataFrame, first: int) -> np.ndarray:
        """The videos at `n_candidates` steps, from `first` on, of each request's walk over the videos.

        A step is a prime larger than the number of videos: so it meets all before one comes again.
        """
        ids, n = requests["request_id"].to_numpy()[:, None], self.n_available(_day(requests))
        start, prime = (
            coins(self.seed, i, ids) >> 33 for i in range(2)
        )  # 31 bits, so that nothing overflows
        step = self._steps[prime % len(self._steps)] % n
        walk = start.astype("int64") + step * np.arange(first, first + self.n_candidates)
        return (walk % n).astype("int32")

    # ------------------------------------------------------------ the value of a policy

    def oracle_policy(self, objective: str, epsilon: float = 0.0, seed: int = 0) -> Policy:
        """Return the `score_policy` whose score is the `true_gain` of an objective; it reads the mood.

        Raises ValueError for an unknown objective or an `epsilon` outside [0, 1].
        """
        choice("objective", objective, tuple(OBJECTIVES))
        return score_policy(lambda *slates: self._gains(objective, *slates), epsilon, seed)

    def _gains(self, objective: str, requests: pd.DataFrame, videos: np.ndarray) -> np.ndarray:
        """The true gain of each video for the user who asks, shaped as `videos`."""
        user, mood = (requests[name].to_numpy()[:, None] for name in ("user_id", "mood"))
        return self.true_gain(objective, user, videos, _day(requests), mood)

    def true_value(self, policy: Policy, objective: str = "click", days: int | range = 7) -> Value:
        """Return the mean `true_gain` of a request's slate under a policy; the error is clustered by user.

        Reactions are summed exactly; only requests and slates are drawn. Nobody remembers any regret.
        days: as for `simulate`. Raises ValueError as `simulate` and `true_gain` do.
        """
        slates = [self._slate_gains(policy, objective, day) for day in self._calendar(days)]
        user, gain = map(np.concatenate, zip(*slates, strict=True))
        error = np.bincount(user, gain - gain.mean())
        return Value(float(gain.mean()), float(np.sqrt(np.sum(error**2)) / len(gain)))

    def _slate_gains(self, policy: Policy, objective: str, day: int) -> tuple[np.ndarray, np.ndarray]:
        """The user and the true gain of each request of that day."""
        requests = self.requests(day)
        gains = self._gains(objective, requests, self._show(policy, requests)[0])
        return requests["user_id"].to_numpy(), gains @ self.examination_curve.astype("float64")

    # ------------------------------------------------------------ logs and experiments

    def simulate(
        self, policy: Policy, days: int | range, name: str = "policy", model_version: str = "1"
    ) -> pd.DataFrame:
        """Return the impression log of a policy, one row a video shown, in order of time and position.

        It fits `IMPRESSION_LOG`. `timestamp`: of the request. The key is `request_id` and `position`, which
        counts from 1. `propensity`: the probability that the policy shows this video at this position of
        this request. `watch_seconds`: 0 without a click. `dismissed`: "not interested", after a click.

        days: a number of days from day 0 on, or consecutive days such as range(7, 14). Nobody remembers any
        regret from before the first of them; from then on regret keeps users away.

        Raises ValueError for days outside the calendar and for a policy that breaks its contract.
        """
        one_arm = np.zeros(self.n_users, dtype="int8")
        log = pd.concat(self._live({name: policy}, one_arm, days), ignore_index=True)
        versions = pd.Categorical.from_codes(np.zeros(len(log), dtype="int8"), categories=[model_version])
        log = log.drop(columns="satisfied").assign(model_version=versions)
        return IMPRESSION_LOG.validate(self._collected(log))

    def run_experiment(
        self, policies: Mapping[str, Policy], days: int | range, seed: int = 0
    ) -> pd.DataFrame:
        """Return a randomized online test, one row a user and day, in order of day and user.

        Each user goes to one of the policies, with equal chances, and stays there; regret is remembered from
        day to day. Who does not come has zeros, so a sum over days is the total of a user.

        Columns: `user_id`, `day`, `arm` (the policy), and of that day the `requests`, `clicks`,
        `watch_seconds`, `likes`, `dismissals`; `satisfied` and `regrets` (clicks) are hidden truth.
        days: as for `simulate`. seed: of the assignment.

        Raises ValueError for fewer than two policies, and as `simulate` does.
        """
        whole("the number of policies", len(policies), 2, 100)
        arms = self.rng("arms", whole("seed", seed)).integers(len(policies), size=self.n_users, dtype="int8")
        panels = map(self._panel, self._calendar(days), self._live(policies, arms, days))
        panel = pd.concat(panels, ignore_index=True)
        panel.insert(2, "arm", pd.Categorical.from_codes(arms[panel["user_id"]], categories=list(policies)))
        return panel

    def _panel(self, day: int, impressions: pd.DataFrame) -> pd.DataFrame:
        """One row a user: what happened on that day."""
        sums = {
            "requests": impressions["position"] == 1,
            "clicks": impressions["clicked"],
            "watch_seconds": impressions["watch_seconds"],
            "likes": impressions["liked"],
            "dismissals": impressions["dismissed"],
            "satisfied": impressions["satisfied"],
            "regrets": _regretted(impressions),
        }
        sums = {name: self._per_user(impressions, values) for name, values in sums.items()}
        return pd.DataFrame({"user_id": np.arange(self.n_users, dtype="int32"), "day": np.int16(day), **sums})

    def _per_user(self, impressions: pd.DataFrame, values: pd.Series) -> np.ndarray:
        """The sum of the values of each user, float32."""
        return np.bincount(impressions["user_id"], values, minlength=self.n_users).astype("float32")

    def _live(
        self, policies: Mapping[str, Policy], arms: np.ndarray, days: int | range
    ) -> Iterator[pd.DataFrame]:
        """The impressions of each day, with the hidden `satisfied`; regret goes on from day to day."""
        regret = np.zeros(self.n_users)
        for day in self._calendar(days):
            impressions = self._impressions(policies, arms, day, self.requests(day, regret))
            regrets = self._per_user(impressions, _regretted(impressions))
            regret = self.remembered(regret, regrets, self._per_user(impressions, impressions["satisfied"]))
            yield impressions

    def _calendar(self, days: int | range) -> range:
        """The days asked for, if all of them are in the calendar."""
        span = days if isinstance(days, range) else range(whole("days", days, 1, self.days))
        if not (len(span) and span.step == 1 and span.start >= 0 and span.stop <= self.days):
            raise ValueError(f"days must be consecutive days of range({self.days}), not {span}: change it.")
        return span

    def _impressions(
        self, policies: Mapping[str, Policy], arms: np.ndarray, day: int, requests: pd.DataFrame
    ) -> pd.DataFrame:
        """What each request is shown, by the policy of its user's arm, and what comes of it."""
        arm = arms[requests["user_id"]]
        shown = np.empty((len(requests), self.n_slots), dtype="int32")
        propensity = np.empty(shown.shape, dtype="float32")
        for code, policy in enumerate(policies.values()):
            shown[arm == code], propensity[arm == code] = self._show(policy, requests[arm == code])
        user, mood = (requests[name].to_numpy()[:, None] for name in ("user_id", "mood"))
        position = np.broadcast_to(np.arange(1, self.n_slots + 1, dtype="int16"), shown.shape)
        columns = {"video_id": shown, "position": position, "propensity": propensity}
        columns |= self.react(user, shown, day, mood, self.examination_curve)
        rows = requests[["timestamp", "request_id", "user_id"]].to_dict("series")
        return pd.DataFrame(
            {name: np.repeat(values.to_numpy(), self.n_slots) for name, values in rows.items()}
            | {name: values.ravel() for name, values in columns.items()}
            | {"policy": pd.Categorical.from_codes(np.repeat(arm, self.n_slots), categories=list(policies))}
        )

    def _show(self, policy: Policy, requests: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """The first `n_slots` videos of each ranking and their propensities, if they keep the contract."""
        ranked, propensities = map(np.asarray, policy(requests, self.candidates(requests)))
        shown, propensity = ranked[:, : self.n_slots], propensities[:, : self.n_slots]
        if not shown.shape == propensity.shape == (len(requests), self.n_slots):
            raise ValueError(
                f"A policy must rank {self.n_slots} or more videos for each of {len(requests)} requests, but "
                f"its ids and propensities have the shapes {ranked.shape} and {propensities.shape}: rank all."
            )
        if not ((propensity > 0) & (propensity <= 1)).all():
            raise ValueError(
                "The propensities of a policy must be greater than 0 and at most 1: correct them."
            )
        if (np.diff(np.sort(shown, axis=1)) == 0).any():
            raise ValueError("A policy showed a video twice in one request: rank each candidate once.")
        return shown, propensity

    def _collected(self, log: pd.DataFrame) -> pd.DataFrame:
        """The rows that reach the log: all, unless a label shift loses some without a click."""
        strength = self.strength("label", log["request_id"] // REQUESTS_A_DAY)
        if not strength.any():
            return log
        lost = uniform(self.seed, 3, log["request_id"], log["position"]) < strength
        return log[log["clicked"] | ~lost].reset_index(drop=True)


def _regretted(impressions: pd.DataFrame) -> pd.Series:
    """Whether each impression was clicked and did not satisfy."""
    return impressions["clicked"] & ~impressions["satisfied"]


def _day(requests: pd.DataFrame) -> np.ndarray:
    """The day of each request, shape (requests, 1)."""
    return requests["request_id"].to_numpy()[:, None] // REQUESTS_A_DAY


def _primes(low: int, high: int) -> np.ndarray:
    """The primes above `low`, up to `high`, by the sieve of Eratosthenes."""
    prime = np.ones(high + 1, dtype=bool)
    for factor in range(2, isqrt(high) + 1):
        prime[factor * factor :: factor] = False
    return np.flatnonzero(prime[low + 1 :]) + low + 1
