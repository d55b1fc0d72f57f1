"""The people and the videos of the simulated platform, and how the people react; the truth can be asked.

`World` documents the model, the tables and their units. `simulator` adds requests, policies and the log.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit

from helpers.shifts import Shift, choice, whole

START = pd.Timestamp("2025-01-06").as_unit("us")  # a Monday; day 0 begins
DAY_SECONDS = 24 * 60 * 60
LONGEST_SECONDS = 2 * 60 * 60  # of a video
OLDEST_DAYS = 60  # age of the oldest video on day 0

AGE_BANDS = {"13-17": 0.15, "18-24": 0.25, "25-34": 0.3, "35-49": 0.2, "50+": 0.1}
COUNTRIES = {"US": 0.35, "BR": 0.2, "IN": 0.2, "DE": 0.15, "JP": 0.1}
LANGUAGES = ("en", "pt", "hi", "de", "ja")  # each spoken in the country at its place
DEVICES = {"phone": 0.65, "desktop": 0.2, "tv": 0.15}
ENGLISH = 0.15  # of the users, whatever their country
ASLEEP, AWAKE = 0.02, 0.95  # return probability of the youngest, and after the strongest covariate shift
MOST_REQUESTS = 100  # mean of the most active users, after the first request of a visit
MEAN_CLICKBAIT = 0.25
HIDDEN = ("mood", "quality", "clickbait", "return_probability", "requests_per_visit")

# The behavior; `World` gives the formulas.
TASTE_DAYS, AGE_TASTE, MOOD, FOREIGN = 240, 0.7, 1.2, 1.5
CLICK, CLICKBAIT, FADE = -1.6, 3.0, 0.3
SATISFIED, QUALITY, DISAPPOINTMENT = 1.5, 3.0, 7.0
PATIENCE_SECONDS, HURRY = 600, 6
LIKE, DISMISS = 0.2, 0.25
EXAMINATION = 0.7
REGRET, MEMORY, HEALING = 0.05, 0.97, 0.5
NO_MOOD = -1


def completion_probability(satisfaction: np.ndarray, duration_seconds: np.ndarray) -> np.ndarray:
    """P(a clicked video is watched to half or more)."""
    haste = duration_seconds / PATIENCE_SECONDS
    satisfied, regretted = 1 - 0.5 ** (1 / haste), 1 - 0.5 ** (1 / (haste + HURRY))
    return satisfaction * satisfied + (1 - satisfaction) * regretted


def mean_watch_seconds(satisfaction: np.ndarray, duration_seconds: np.ndarray) -> np.ndarray:
    """E[seconds watched of a clicked video]."""
    haste = duration_seconds / PATIENCE_SECONDS
    return duration_seconds * (satisfaction / (1 + haste) + (1 - satisfaction) / (1 + haste + HURRY))


OBJECTIVES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "click": lambda satisfaction, duration_seconds: np.ones_like(satisfaction),
    "completion": completion_probability,
    "watch": mean_watch_seconds,
    "satisfaction": lambda satisfaction, duration_seconds: satisfaction,
    "regret": lambda satisfaction, duration_seconds: 1 - satisfaction,
}


class World:
    """Users, videos, and how people react.

    Tables
    ------
    users
        `user_id`: the row number. `age_band`, `country`, `language`, `device`: categories.
        `return_probability`: of a visit on a day, without regret. `requests_per_visit`: mean number of
        requests after the first one, log-normal: a few users make most of the requests.
    videos
        `video_id`: the row number, in order of upload. `topic`: 0 to n_topics - 1. `duration_seconds`.
        `quality`, `clickbait`: 0 to 1. `creator_id`: 0 to n_creators - 1. `language`. `uploaded_at`: UTC;
        half of the videos are there when day 0 begins, the others come evenly until the calendar ends.

    The columns named in `HIDDEN` are truth: no model may read them.

    The model
    ---------
    A user comes on a day with return_probability exp(-REGRET R), where R remembers regret, and makes
    1 + Poisson(requests_per_visit) requests. The visit has a mood, a topic drawn from softmax(taste): so its
    first minutes tell what the next ones are about. [condition] is 1 if it holds, 0 if not::

        taste(u, t, day) = A_ut cos(w day) + B_ut sin(w day) + AGE_TASTE age_u age_t
            with A, B standard normal, w = 2 pi / TASTE_DAYS, age_u and age_t evenly over [-1, 1]
        affinity = taste(u, topic, day) + MOOD [topic = mood] - FOREIGN [other language]
        P(examined) = position^-EXAMINATION
        P(click | examined) = sigmoid(CLICK + affinity + CLICKBAIT clickbait - FADE log(1 + age in days))
        P(satisfied | click) = sigmoid(SATISFIED + affinity + QUALITY (quality - 1/2)
                                       - DISAPPOINTMENT clickbait)
        watched fraction = U^h, so 1 / (1 + h) on average
            with U uniform, h = duration / PATIENCE_SECONDS + HURRY [not satisfied]
        P(liked | satisfied) = LIKE
        P(dismissed | regret) = DISMISS, where a regret is a click that did not satisfy
        R on the next day = max(0, MEMORY R + regrets - HEALING satisfied clicks)

    The position-based model of examination is that of Craswell et al. 2008.
    """

    def __init__(
        self, n_users: int, n_videos: int, n_topics: int, n_creators: int, days: int, seed: int
    ) -> None:
        """Check the sizes, draw the users and the videos; raises ValueError for a size without sense."""
        self.n_users, self.n_videos = whole("n_users", n_users, 1), whole("n_videos", n_videos, 2)
        self.n_topics, self.n_creators = whole("n_topics", n_topics, 2), whole("n_creators", n_creators, 1)
        self.days, self.seed = whole("days", days, 1), whole("seed", seed)
        self.shift: Shift | None = None
        self.users = self._draw_users(self.rng("users"))
        self.videos = self._draw_videos(self.rng("videos"))
        self._look_up(self.rng("tastes"))

    def rng(self, stream: str, day: int = 0) -> np.random.Generator:
        """Return the generator of a stream ("visits", "reactions", ...) on a day; none disturbs another."""
        return np.random.default_rng([self.seed, day, *stream.encode()])

    def strength(self, kind: str, day: ArrayLike) -> np.ndarray:
        """Return the strength of a kind of shift on each day, shaped as `day`, float32."""
        if self.shift is None or self.shift.kind != kind:
            return np.zeros(np.shape(day), dtype="float32")
        return np.float32(self.shift.strength) * (np.asarray(day) >= self.shift.day)

    # ------------------------------------------------------------ tables

    def _draw_users(self, rng: np.random.Generator) -> pd.DataFrame:
        n = self.n_users
        age_band, country = _draw(rng, AGE_BANDS, n), _draw(rng, COUNTRIES, n)
        language = np.where(rng.random(n) < ENGLISH, 0, country.codes)
        returns = np.where(age_band.codes == 0, ASLEEP, rng.beta(3, 4.5, n))
        return pd.DataFrame(
            {
                "user_id": np.arange(n, dtype="int32"),
                "age_band": age_band,
                "country": country,
                "language": pd.Categorical.from_codes(language, categories=LANGUAGES),
                "device": _draw(rng, DEVICES, n),
                "return_probability": returns.astype("float32"),
                "requests_per_visit": np.minimum(rng.lognormal(0, 1, n), MOST_REQUESTS).astype("float32"),
            }
        )

    def _draw_videos(self, rng: np.random.Generator) -> pd.DataFrame:
        n, new = self.n_videos, self.n_videos // 2
        creator = rng.integers(self.n_creators, size=n, dtype="int32")
        skill = rng.normal(size=self.n_creators)[creator]
        day = np.append(np.linspace(-OLDEST_DAYS, 0, n - new), np.linspace(self.days / new, self.days, new))
        return pd.DataFrame(
            {
                "video_id": np.arange(n, dtype="int32"),
                "topic": rng.integers(self.n_topics, size=n, dtype="int16"),
                "duration_seconds": np.clip(rng.lognormal(5.5, 1, n), 15, LONGEST_SECONDS).astype("float32"),
                "quality": expit(skill + rng.normal(size=n)).astype("float32"),
                "clickbait": rng.beta(2.8 * MEAN_CLICKBAIT, 2.8 * (1 - MEAN_CLICKBAIT), n).astype("float32"),
                "creator_id": creator,
                "language": pd.Categorical(rng.choice(self.users["language"], n), categories=LANGUAGES),
                "uploaded_at": START + duration(day * DAY_SECONDS),
            }
        )

    def _look_up(self, rng: np.random.Generator) -> None:
        """Draw the tastes, and keep as arrays what the model reads for each pair of user and video."""
        users, videos = self.users, self.videos
        a_and_b = rng.standard_normal((self.n_users, self.n_topics, 2), dtype="float32")
        self._tastes = a_and_b.view("complex64")[:, :, 0]  # A + iB: one look-up for both
        self._age = np.linspace(-1, 1, len(AGE_BANDS), dtype="float32")[users["age_band"].cat.codes]
        self._topic_age = np.linspace(-1, 1, self.n_topics, dtype="float32")
        self._topic, self._seconds = videos["topic"].to_numpy(), videos["duration_seconds"].to_numpy()
        self._speaks, self._spoken = (frame["language"].cat.codes.to_numpy() for frame in (users, videos))
        self._upload_day = ((videos["uploaded_at"] - START) / pd.Timedelta(days=1)).to_numpy("float32")
        self._clickbait = videos["clickbait"].to_numpy()
        worth = QUALITY * (videos["quality"] - 0.5) - DISAPPOINTMENT * videos["clickbait"]
        self._worth = (SATISFIED + worth).to_numpy()

    def n_available(self, day: ArrayLike) -> np.ndarray:
        """Return how many videos are there when `day` begins: those with the lowest ids."""
        return np.searchsorted(self._upload_day, day, side="right")

    # ------------------------------------------------------------ truth

    def taste(self, user_ids: ArrayLike, topics: ArrayLike, day: ArrayLike = 0) -> np.ndarray:
        """Return how much each user likes each topic on that day, in logits; the arguments broadcast."""
        taste, strength = self._own_taste(user_ids, topics, day), self.strength("concept", day)
        if not strength.any():
            return taste
        neighbor = self._own_taste(user_ids, (np.asarray(topics) + 1) % self.n_topics, day)
        return ((1 - strength) * taste + strength * neighbor) / np.hypot(1 - strength, strength)

    def _own_taste(self, users: ArrayLike, topics: ArrayLike, day: ArrayLike) -> np.ndarray:
        """The taste before any shift."""
        angle = np.asarray(day, dtype="float32") * np.float32(2 * np.pi / TASTE_DAYS)
        own, by_age = self._tastes[users, topics], self._age[users] * self._topic_age[topics]
        return own.real * np.cos(angle) + own.imag * np.sin(angle) + AGE_TASTE * by_age

    def affinity(
        self, user_ids: ArrayLike, video_ids: ArrayLike, day: ArrayLike = 0, mood: ArrayLike = NO_MOOD
    ) -> np.ndarray:
        """Return how well each video fits its user, in logits, float32; the arguments broadcast.

        mood: a topic, or NO_MOOD. Raises ValueError for an id that does not exist.
        """
        users, videos = _ids("user_ids", user_ids, self.n_users), _ids("video_ids", video_ids, self.n_videos)
        topics = self._topic[videos]
        in_mood, foreign = topics == np.asarray(mood), self._speaks[users] != self._spoken[videos]
        return self.taste(users, topics, day) + np.float32(MOOD) * in_mood - np.float32(FOREIGN) * foreign

    def true_click_probability(
        self, user_ids: ArrayLike, video_ids: ArrayLike, day: ArrayLike = 0, mood: ArrayLike = NO_MOOD
    ) -> np.ndarray:
        """Return P(click | examined). Times P(examined) it is P(click). Arguments as for `affinity`."""
        return self._click(self.affinity(user_ids, video_ids, day, mood), video_ids, day)

    def true_satisfaction(
        self, user_ids: ArrayLike, video_ids: ArrayLike, day: ArrayLike = 0, mood: ArrayLike = NO_MOOD
    ) -> np.ndarray:
        """Return P(satisfied | click). Arguments as for `affinity`."""
        return self._satisfied(self.affinity(user_ids, video_ids, day, mood), video_ids)

    def true_gain(
        self,
        objective: str,
        user_ids: ArrayLike,
        video_ids: ArrayLike,
        day: ArrayLike = 0,
        mood: ArrayLike = NO_MOOD,
    ) -> np.ndarray:
        """Return what an examined video brings on average, in the unit of one of the `OBJECTIVES`.

        "click": P(click). "completion": P(click, then half or more watched). "watch": E[seconds watched].
        "satisfaction": P(satisfied click). "regret": P(click that does not satisfy).
        Other arguments as for `affinity`. Raises ValueError for an unknown objective or id.
        """
        gain = OBJECTIVES[choice("objective", objective, tuple(OBJECTIVES))]
        affinity = self.affinity(user_ids, video_ids, day, mood)
        satisfaction = self._satisfied(affinity, video_ids)
        return self._click(affinity, video_ids, day) * gain(satisfaction, self._seconds[video_ids])

    def _click(self, affinity: np.ndarray, videos: ArrayLike, day: ArrayLike) -> np.ndarray:
        age = np.maximum(0, np.asarray(day, dtype="float32") - self._upload_day[videos])
        lure = self._clickbait[videos]
        lure = lure + 2 * self.strength("concept", day) * (MEAN_CLICKBAIT - lure)
        return expit(CLICK + affinity + CLICKBAIT * lure - FADE * np.log1p(age))

    def _satisfied(self, affinity: np.ndarray, videos: ArrayLike) -> np.ndarray:
        return expit(affinity + self._worth[videos])

    # ------------------------------------------------------------ reactions

    def react(
        self, user_ids: ArrayLike, shown: np.ndarray, day: int, mood: ArrayLike, examined: ArrayLike
    ) -> dict[str, np.ndarray]:
        """Return what users do with the videos shown to them, each array shaped as `shown`.

        `clicked`, `watch_seconds`, `liked`, `dismissed`, and the hidden `satisfied`. examined: P(examined).
        """
        rng, affinity = self.rng("reactions", day), self.affinity(user_ids, shown, day, mood)
        clicked = rng.random(shown.shape, dtype="float32") < examined * self._click(affinity, shown, day)
        videos = shown[clicked]
        satisfied, watch, liked, dismissed = rng.random((4, len(videos)), dtype="float32")
        satisfied = satisfied < self._satisfied(affinity[clicked], videos)
        seconds = self._seconds[videos]
        haste = seconds / PATIENCE_SECONDS
        haste[~satisfied] += HURRY
        after = {
            "watch_seconds": seconds * watch**haste,
            "liked": satisfied & (liked < LIKE),
            "dismissed": ~satisfied & (dismissed < DISMISS),
            "satisfied": satisfied,
        }
        return {"clicked": clicked, **{name: _spread(values, clicked) for name, values in after.items()}}

    def return_probability(self, day: int, regret: ArrayLike = 0.0) -> np.ndarray:
        """Return the probability of a visit on that day, shape (n_users,); regret: R of each user."""
        returns = self.users["return_probability"].to_numpy()
        woken = returns + self.strength("covariate", day) * (AWAKE - returns)
        returns = np.where(self.users["age_band"].cat.codes == 0, woken, returns)
        return returns * np.exp(-REGRET * np.asarray(regret))

    def remembered(self, regret: ArrayLike, regrets: ArrayLike, satisfied: ArrayLike) -> np.ndarray:
        """Return R on the next day, from R and the numbers of regretted and satisfied clicks of the day."""
        return np.maximum(0, MEMORY * np.asarray(regret) + regrets - HEALING * np.asarray(satisfied))


def duration(seconds: np.ndarray) -> np.ndarray:
    """Return seconds as timedelta64[us]."""
    return (seconds * 1e6).astype("timedelta64[us]")


def _draw(rng: np.random.Generator, shares: Mapping[str, float], n: int) -> pd.Categorical:
    """`n` names, each with its share."""
    codes = rng.choice(len(shares), n, p=list(shares.values()))
    return pd.Categorical.from_codes(codes, categories=list(shares))


def _ids(name: str, ids: ArrayLike, n: int) -> np.ndarray:
    """`ids` as an array, each from 0 to n - 1: a negative one would silently count from the end."""
    ids = np.asarray(ids)
    if ids.size and not (ids.min() >= 0 and ids.max() < n):
        span = f"from {ids.min()} to {ids.max()}"
        raise ValueError(f"{name} must lie from 0 to {n - 1}, not {span}: check which column you passed.")
    return ids


def _spread(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """An array shaped as `where` that holds the values where it is true, and 0 elsewhere."""
    spread = np.zeros(where.shape, dtype=values.dtype)
    spread[where] = values
    return spread
