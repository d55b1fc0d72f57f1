"""The exercises of notebook 04: the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, log_softmax, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from helpers.exercises import Exercise, Mistake, close, replies, same_as, tidy


def _mistakes_on(
    probes: Sequence[tuple], agree: Callable[[Any, Any], bool] = close
) -> Callable[..., Mistake]:
    """Return a maker of mistakes: of writing one of several functions that share their fault."""

    def mistake(name: str, message: str, *functions: Callable) -> Mistake:
        tests = [same_as(function, probes, agree) for function in functions]
        return Mistake(name, lambda a: any(test(a) for test in tests), message, example=functions[0])

    return mistake


def _same_word(a: Any, b: str) -> bool:
    return str(a).strip().lower() == b


def _standard(rows: int, columns: int, seed: int) -> np.ndarray:
    """Draws whose columns have exactly mean 0 and standard deviation 1, and do not correlate."""
    draws = np.random.default_rng(seed).normal(size=(rows, columns))
    return np.linalg.qr(draws - draws.mean(axis=0))[0] * np.sqrt(rows - 1)


# ------------------------------------------------------------------ 1 ladder choice

LADDER_CHOICES = {
    "linear model": "one weight for each feature, added up",
    "boosted trees": "many small trees, each correcting those before it",
    "deep network": "user and video go into it together, and a score comes out",
    "two towers": "a vector for the user and one for the video; the score is their inner product",
    "random split": "hold out rows drawn at random",
    "split by date": "train on all rows before a date, test on all rows after it",
    "last like of each": "hold out the last like of every user who has several",
    "published result": "the score of the best model in a paper",
    "popular and recent": "the most liked videos of the last month, and the newest ones",
    "rule": "the newest videos of the topics that a user picked",
}
_LADDER = {
    "no log yet": "rule",
    "every table": "popular and recent",
    "known users": "last like of each",
    "cold start": "split by date",
    "thirty features": "boosted trees",
    "forty million videos": "two towers",
}
SITUATIONS = tuple(_LADDER)
LADDER_STORY = (
    "You build a video platform, one rung at a time:\n\n"
    "- `no log yet`: it opens tomorrow. People pick topics when they sign up. What ranks their first feed?\n"
    "- `every table`: there is a log now. Which rows belong into every table of results, whatever the "
    "models?\n"
    "- `known users`: two models for people who come back. After any one date, only 21 of them liked "
    "anything. Which test tells the models apart?\n"
    "- `cold start`: how does the system fare with people and videos that came after its training? Which "
    "test shows it?\n"
    "- `thirty features`: 200 candidates are to be ranked by thirty numbers and categories, some of them "
    "missing. There are a million labeled rows, and two weeks. Which model first?\n"
    "- `forty million videos`: 200 candidates are to be found for a user in 20 ms. Which model?\n\n"
    "Your choices:\n\n" + "\n".join(f"- `{name}`: {what}" for name, what in LADDER_CHOICES.items())
)


def _chose(key: str, labels: Sequence[str], message: str) -> Mistake:
    """The mistake of giving one of these labels to `key`."""
    return Mistake(
        f"{key}: {labels[0]}", lambda a: tidy(a)[key] in labels, message, example=_LADDER | {key: labels[0]}
    )


LEARNED = ("linear model", "boosted trees", "two towers", "deep network")

ladder_choice = Exercise(
    title="choose the rung",
    right=lambda a: tidy(a) == _LADDER,
    reason="Each rung must pay: a rule needs no data, a baseline shows what a model adds, and the next model "
    "fits the rows and milliseconds that there are. A test imitates the question that it answers.",
    mistakes=(
        Mistake(
            "unknown",
            lambda a: not set(tidy(a).values()) <= set(LADDER_CHOICES),
            "One of your choices is not in the list. Copy the names as they stand.",
            example=_LADDER | {"every table": "baseline"},
        ),
        _chose(
            "no log yet",
            ("popular and recent",),
            "Popular with whom? Nobody has liked anything yet. What did people tell you themselves?",
        ),
        _chose(
            "no log yet",
            LEARNED,
            "A model learns from labels, and you have none. Ship what collects them.",
        ),
        _chose(
            "every table",
            ("published result",),
            "That was measured on other people and other videos. It cannot stand beside your numbers.",
        ),
        _chose(
            "every table",
            ("rule", *LEARNED),
            "A baseline must be hard to beat and cost nothing. With a log you can count likes.",
        ),
        _chose(
            "known users",
            ("split by date",),
            "With 21 users the interval of any difference covers zero. Which rows has every known user?",
        ),
        _chose(
            "known users",
            ("random split",),
            "A random split trains on what these users did later. It may crown the wrong model.",
        ),
        _chose(
            "cold start",
            ("last like of each",),
            "Users with several likes are known, and their videos mostly too. Who is new after a date?",
        ),
        _chose(
            "cold start",
            ("random split",),
            "A random split puts everybody on both sides, so that nobody is new.",
        ),
        _chose(
            "thirty features",
            ("linear model",),
            "It adds up effects: no thresholds, no interactions, no missing values, unless you build them. "
            "You have rows and time for the next rung.",
        ),
        _chose(
            "thirty features",
            ("deep network",),
            "On tables of mixed features it seldom beats the rung below (Grinsztajn et al. 2022), and takes "
            "longer to tune. Earn it later.",
        ),
        _chose(
            "thirty features",
            ("two towers",),
            "Two towers see user and video apart, to be fast. For 200 candidates you can look at both "
            "together.",
        ),
        _chose(
            "forty million videos",
            ("boosted trees", "deep network", "linear model"),
            "It must score each video anew for this user. An index can search only what is a vector.",
        ),
        _chose(
            "forty million videos",
            ("popular and recent", "rule"),
            "That is fast, and nearly the same for everybody. Which model is personal, and can be searched?",
        ),
    ),
    otherwise="Ask of each: which data are there, how many rows must be scored in which time, and what will "
    "be new when it is used?",
    hints=(
        "Six of the ten are right once each: a rule, a baseline, two tests and two models.",
        "Of the tests, one keeps every known user, the other lets new users and videos come.",
        "Of the models, one reads a row of mixed features, the other makes vectors that an index can search.",
    ),
    solution_code=f"answer = {_LADDER!r}",
)

# ------------------------------------------------------------------ 2 logQ correction


def _batch(seed: int, *counts: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a batch, and how often each of its items was a target."""
    rng = np.random.default_rng(seed)
    return rng.normal(scale=1.5, size=(len(counts), len(counts))), np.array(counts)


BATCHES = [_batch(0, 40, 9, 2, 17), _batch(1, 3, 25, 8), _batch(2, 12, 1, 30, 5, 2)]


def _likelihoods(
    scores: np.ndarray,
    counts: np.ndarray,
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray] = np.subtract,
    log_share: Callable[[np.ndarray], np.ndarray] = lambda counts: np.log(counts / counts.sum()),
    axis: int = 1,
) -> np.ndarray:
    """The log-probability of each user's own item."""
    return np.diag(log_softmax(correct(scores, log_share(counts)), axis=axis))


def _batch_loss(*batch: Any, **changes: Any) -> float:
    return -_likelihoods(*batch, **changes).mean()


def _on_diagonal(scores: np.ndarray, log_share: np.ndarray) -> np.ndarray:
    return scores - np.diag(log_share)


def _off_diagonal(scores: np.ndarray, log_share: np.ndarray) -> np.ndarray:
    return scores - log_share + np.diag(log_share)


_log_q_mistake = _mistakes_on(BATCHES)

log_q = Exercise(
    title="the logQ correction",
    right=same_as(_batch_loss, BATCHES),
    reason="A popular item is in many batches, as the negative of other users, and each time its score is "
    "pushed down. Subtracting log q takes that back. Only in training: at serving nobody draws a batch. The "
    "correction is that of Yi et al. (2019).",
    mistakes=(
        _log_q_mistake(
            "not corrected",
            "That is the loss without a correction. If you did subtract something, it was the same for a "
            "whole row, and cancels: each column has its own item.",
            lambda s, c: _batch_loss(s, c, correct=lambda s, _: s),
        ),
        _log_q_mistake(
            "added",
            "You added log q, and popular items pay twice. Subtract it.",
            lambda s, c: _batch_loss(s, c, correct=np.add),
        ),
        _log_q_mistake(
            "no logarithm",
            "You subtract the counts or shares themselves. Scores are logarithms of odds: take log q.",
            lambda s, c: _batch_loss(s, c, log_share=lambda c: c),
            lambda s, c: _batch_loss(s, c, log_share=lambda c: c / c.sum()),
        ),
        _log_q_mistake(
            "other logarithm",
            "The softmax takes powers of e, so it needs the natural logarithm, and of the share as it is.",
            lambda s, c: _batch_loss(s, c, log_share=np.log10),
            lambda s, c: _batch_loss(s, c, log_share=np.log2),
            lambda s, c: _batch_loss(s, c, log_share=np.log1p),
        ),
        _log_q_mistake(
            "columns",
            "Your softmax runs down the columns: users compete for an item. Let the items of a row compete.",
            lambda s, c: _batch_loss(s, c, axis=0),
            lambda s, c: _batch_loss(s, c, correct=lambda s, log_share: s - log_share[:, None], axis=0),
        ),
        _log_q_mistake(
            "targets only",
            "You corrected the targets alone. The negatives came into the batch by their popularity too.",
            lambda s, c: _batch_loss(s, c, correct=_on_diagonal),
            lambda s, c: _batch_loss(s, c, correct=_on_diagonal, log_share=np.log),
        ),
        _log_q_mistake(
            "negatives only",
            "You left the targets out. Every item of the batch is corrected, each user's own one too.",
            lambda s, c: _batch_loss(s, c, correct=_off_diagonal),
            lambda s, c: _batch_loss(s, c, correct=_off_diagonal, log_share=np.log),
        ),
        _log_q_mistake(
            "after the softmax",
            "You divided the probabilities by q. That moves the loss by a constant, and the model learns "
            "nothing from it: correct the scores, then take the softmax.",
            lambda s, c: _batch_loss(s, c, correct=lambda s, _: s) + np.log(c / c.sum()).mean(),
            lambda s, c: _batch_loss(s, c, correct=lambda s, _: s) + np.log(c).mean(),
        ),
        _log_q_mistake(
            "summed",
            "That is the sum over the batch. Take the mean, or a larger batch has a larger loss.",
            lambda s, c: -_likelihoods(s, c).sum(),
        ),
        _log_q_mistake(
            "sign",
            "That is the mean log-likelihood, which is to be high. A loss is to be low: change the sign.",
            lambda s, c: _likelihoods(s, c).mean(),
        ),
        _log_q_mistake(
            "mean first",
            "You took the logarithm of the mean probability. Take it for each user, then the mean.",
            lambda s, c: -np.log(np.exp(_likelihoods(s, c)).mean()),
        ),
    ),
    otherwise="By hand: with all scores 0 and the counts 1 and 3, a user's own item gets the softmax of "
    "-log(1) and -log(3), 3/4 and 1/4; the loss is the mean of -log(3/4) and -log(1/4).",
    hints=(
        "One number for each column: subtract it from the score of that item for every user.",
        "The total cancels in the softmax, so log(counts) does what log(counts / total) does.",
        "`scipy.special.log_softmax(corrected, axis=1)`, then the mean of its diagonal.",
    ),
    solution_code="""
import numpy as np
from scipy.special import log_softmax

def answer(scores, counts):
    log_q = np.log(counts / counts.sum())
    return -np.diag(log_softmax(scores - log_q, axis=1)).mean()
""",
    probe=BATCHES[0],
)

# ------------------------------------------------------------------ 3 debiased clicks

THETA = np.array([1, 0.6, 0.4, 0.25, 0.1, 0.05])


def _impressions(seed: int, relevance: Sequence[float], clip: float, rows: int = 150) -> tuple:
    """Impressions at the positions 1 to 5, clicked when they were seen and relevant."""
    rng = np.random.default_rng(seed)
    video = np.arange(rows) % len(relevance)
    position = rng.integers(1, 6, rows)
    clicked = rng.random(rows) < THETA[position - 1] * np.array(relevance)[video]
    return video, position, clicked.astype(int), THETA, clip


IMPRESSIONS = [_impressions(0, (0.9, 0.6, 0.8, 0.3), clip=5), _impressions(1, (0.5, 0.9, 0.7), clip=3)]


def _mean_of(video: np.ndarray, values: ArrayLike) -> pd.Series:
    """The mean of each video's values."""
    return pd.Series(np.asarray(values, float)).groupby(video).mean()


def _clipped(position: np.ndarray, theta: np.ndarray, clip: float) -> np.ndarray:
    return np.minimum(1 / theta[position - 1], clip)


def _relevance(
    video: np.ndarray,
    position: np.ndarray,
    clicked: np.ndarray,
    theta: np.ndarray,
    clip: float,
    weight: Callable[[np.ndarray, np.ndarray, float], np.ndarray] = _clipped,
) -> pd.Series:
    return _mean_of(video, clicked * weight(position, theta, clip))


def _trimmed(position: np.ndarray, theta: np.ndarray, clip: float) -> np.ndarray:
    weight = 1 / theta[position - 1]
    return np.where(weight > clip, 0, weight)


def _same_videos(reply: Any, right: pd.Series) -> bool:
    """Whether two sets of numbers by video agree; an array has them in the order of the ids."""
    return close(pd.Series(reply).sort_index(), right)


_click_mistake = _mistakes_on(IMPRESSIONS, _same_videos)

debias_clicks = Exercise(
    title="clicks without their position",
    right=same_as(_relevance, IMPRESSIONS, _same_videos),
    reason="A click at a place that one in four people look at stands for four. The clip gives up some "
    "accuracy on average for fewer jumps: one lucky click far down no longer decides.",
    mistakes=(
        _click_mistake(
            "click rate",
            "That is the click rate, which rewards a video for standing high. Weight the clicks.",
            lambda v, k, c, t, clip: _mean_of(v, c),
        ),
        _click_mistake(
            "multiplied",
            "You multiplied by theta, and a click far down counts even less. Divide.",
            lambda v, k, c, t, clip: _mean_of(v, c * t[k - 1]),
            lambda v, k, c, t, clip: _mean_of(v, c * np.minimum(t[k - 1], clip)),
        ),
        _click_mistake(
            "not clipped",
            "Unbiased, but one click far down may decide. No weight may be larger than `clip`.",
            lambda v, k, c, t, clip: _relevance(v, k, c, t, np.inf),
        ),
        _click_mistake(
            "dropped",
            "You dropped the impressions with a large weight, and with them these clicks. Cut the weight to "
            "`clip`.",
            lambda *log: _relevance(*log, weight=_trimmed),
        ),
        _click_mistake(
            "clipped theta",
            "You clipped theta. The clip is for the weight, 1 / theta.",
            lambda v, k, c, t, clip: _mean_of(v, c / np.maximum(t[k - 1], clip)),
            lambda v, k, c, t, clip: _mean_of(v, c / np.minimum(t[k - 1], clip)),
        ),
        _click_mistake(
            "off by one",
            "Off by one: positions begin at 1, arrays at 0. `theta[0]` belongs to position 1.",
            lambda v, k, c, t, clip: _relevance(v, k + 1, c, t, clip),
        ),
        _click_mistake(
            "over the weights",
            "You divided by the sum of the weights. They are not 1 on average, so that sum grows where a "
            "video stood low, and takes the correction back. Divide by the number of impressions.",
            lambda v, k, c, t, clip: _relevance(v, k, c, t, clip) / _mean_of(v, _clipped(k, t, clip)),
            lambda v, k, c, t, clip: _relevance(v, k, c, t, np.inf) / _mean_of(v, 1 / t[k - 1]),
        ),
        _click_mistake(
            "over the clicks",
            "You divided by the clicks. The impressions without a click tell something too: divide by all.",
            lambda v, k, c, t, clip: _relevance(v, k, c, t, clip) / _mean_of(v, c),
        ),
        _click_mistake(
            "expected clicks",
            "Clicks over the sum of theta is right on average as well, but it is another estimate, without "
            "weights that a loss could use. Weight each click.",
            lambda v, k, c, t, clip: _mean_of(v, c) / _mean_of(v, t[k - 1]),
        ),
        _click_mistake(
            "total",
            "These are the weighted clicks, added up. Divide by the impressions of the video.",
            lambda v, k, c, t, clip: _relevance(v, k, c, t, clip) * np.bincount(v),
        ),
    ),
    otherwise="By hand: two impressions at a place of theta 0.5, one clicked, and a clip of 5, give "
    "(2 + 0) / 2 = 1. Return one number for each video.",
    hints=(
        "P(click) = theta of the place x relevance. Which weight makes the mean the relevance?",
        "weight = min(1 / theta[position - 1], clip).",
        "For each video: the sum of clicked x weight over its impressions, divided by their number.",
    ),
    solution_code="""
import numpy as np

def answer(video, position, clicked, theta, clip):
    weight = np.minimum(1 / theta[position - 1], clip)
    return np.bincount(video, clicked * weight) / np.bincount(video)
""",
    probe=IMPRESSIONS[0],
)

# ------------------------------------------------------------------ 4 calibration slice


def _traffic(seed: int, train_end: float, test_start: float, delay: float, rows: int = 8000) -> tuple:
    """Overconfident scores in forty days, in which the rate rises.

    The model knows part of its training labels by heart. Of the labels younger than `delay` on day
    `test_start`, some that will be 1 are still 0; those of the test days came later, and are complete.
    """
    rng = np.random.default_rng(seed)
    day = rng.uniform(0, 40, rows)
    evidence = rng.normal(-1.5, 1, rows)
    label = rng.random(rows) < expit(evidence + 0.03 * (day - 20))
    score = expit(1.8 * evidence + 0.8 + np.where(day < train_end, label - 0.5, 0))
    seen = (test_start - day) / delay > rng.random(rows)
    return score, (label & (seen | (day >= test_start))).astype(int), day, train_end, test_start, delay


TRAFFIC = [_traffic(0, 15, 32, 7), _traffic(1, 12, 30, 9)]


def _mature(day: np.ndarray, train_end: float, test_start: float, delay: float) -> np.ndarray:
    return (day >= train_end) & (day + delay <= test_start)


def _platt(
    score: np.ndarray,
    label: np.ndarray,
    day: np.ndarray,
    train_end: float,
    test_start: float,
    delay: float,
    rows: Callable[..., np.ndarray] = _mature,
    scale: Callable[[np.ndarray], np.ndarray] = logit,
) -> np.ndarray:
    """The probabilities of the test rows, after a logistic regression on some rows."""
    x, fitted = scale(score)[:, None], rows(day, train_end, test_start, delay)
    model = LogisticRegression(C=np.inf).fit(x[fitted], label[fitted])
    return model.predict_proba(x[day >= test_start])[:, 1]


def _fitted_on(rows: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The mistake of fitting on other rows; `rows` takes day, train_end, test_start and delay."""
    return lambda *traffic: _platt(*traffic, rows=rows)


def _nearly(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether two arrays agree within what the default penalty of scikit-learn changes."""
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=0.02))


def _hard(answer: Callable) -> bool:
    return set(np.unique(answer(*TRAFFIC[0]))) <= {0, 1}


def _all_rows(answer: Callable) -> bool:
    return np.size(answer(*TRAFFIC[0])) == len(TRAFFIC[0][0])


_slice_mistake = _mistakes_on(TRAFFIC, _nearly)

calibration_slice = Exercise(
    title="the slice to calibrate on",
    right=same_as(_platt, TRAFFIC, _nearly),
    reason="The model knows its training rows too well, nobody has the labels of the test days when they "
    "begin, and in young rows some labels that will be 1 are still 0. What is left is small, and two numbers "
    "need little. The method is Platt's (1999), on the log-odds.",
    mistakes=(
        Mistake(
            "all rows",
            _all_rows,
            "You return a number for every row. Return those of the test rows, `day >= test_start`.",
            example=lambda score, *_: score,
        ),
        Mistake(
            "hard labels",
            _hard,
            "These are decisions, 0 and 1. Return probabilities: `predict_proba(...)[:, 1]`.",
            example=lambda *traffic: _platt(*traffic) > 0.5,
        ),
        _slice_mistake(
            "not calibrated",
            "These are the scores as they came. Fit a and b, then apply them to the test rows.",
            lambda score, label, day, train_end, test_start, delay: score[day >= test_start],
        ),
        _slice_mistake(
            "log-odds",
            "These are calibrated log-odds. Turn them into probabilities.",
            lambda *traffic: logit(_platt(*traffic)),
        ),
        _slice_mistake(
            "other class",
            "These are the probabilities of a 0. Take the other column.",
            lambda *traffic: 1 - _platt(*traffic),
        ),
        _slice_mistake(
            "training rows",
            "You fitted on the training rows, whose labels the model knows too well: on them its confidence "
            "looks deserved.",
            _fitted_on(lambda day, end, start, delay: day < end),
        ),
        _slice_mistake(
            "test rows",
            "You fitted on the test rows. Their labels are not there when the model must answer, and a test "
            "that was fitted on tests nothing.",
            _fitted_on(lambda day, end, start, delay: day >= start),
            _fitted_on(lambda day, end, start, delay: day >= end),
            _fitted_on(lambda day, end, start, delay: day >= 0),
        ),
        _slice_mistake(
            "young labels",
            "You forgot the delay: in the last rows before the test, some labels that will be 1 are still 0.",
            _fitted_on(lambda day, end, start, delay: (day >= end) & (day < start)),
        ),
        _slice_mistake(
            "delay at the wrong end",
            "You took the delay off the wrong end. The rows to leave out are the newest before the test.",
            _fitted_on(lambda day, end, start, delay: (day >= end + delay) & (day < start)),
        ),
        _slice_mistake(
            "all before the test",
            "Your slice includes the training rows, whose labels the model knows too well. Begin where the "
            "training ends.",
            _fitted_on(lambda day, end, start, delay: day < start),
            _fitted_on(lambda day, end, start, delay: day + delay <= start),
        ),
        _slice_mistake(
            "probability",
            "The right rows, but you fitted on the probability. On its log-odds a calibrated score needs no "
            "change, a = 1 and b = 0; on the probability no line says that.",
            lambda *traffic: _platt(*traffic, scale=lambda score: score),
        ),
    ),
    otherwise="Three sets of rows: trained on, `day < train_end`; to calibrate on, later, and complete when "
    "the test begins; to test on, `day >= test_start`. Fit a plain logistic regression with one input, the "
    "log-odds of the score.",
    hints=(
        "Draw the days as a line: training, then the slice, then the young labels, then the test.",
        "A label of day d is complete on day d + delay. Which days are complete on day `test_start`?",
        "`LogisticRegression(C=np.inf)` on `scipy.special.logit(score)` of the slice, then `predict_proba` "
        "of the test rows.",
    ),
    solution_code="""
import numpy as np
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

def answer(score, label, day, train_end, test_start, delay):
    fitted = (day >= train_end) & (day + delay <= test_start)
    x = logit(score).reshape(-1, 1)
    platt = LogisticRegression(C=np.inf).fit(x[fitted], label[fitted])
    return platt.predict_proba(x[day >= test_start])[:, 1]
""",
    probe=TRAFFIC[0],
)

# ------------------------------------------------------------------ 5 undo the sampling, then check


def _undo(raw: np.ndarray, keep_rate: float) -> np.ndarray:
    return raw / (raw + (1 - raw) / keep_rate)


def _sample(seed: int, rows: int, mean: float, ratio: float, keep_rate: float) -> tuple:
    """Raw probabilities, and labels with `ratio` times the positives that the corrected ones expect."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 1 / mean - 1, rows)
    positives = rng.choice(rows, round(ratio * p.sum()), replace=False, p=p / p.sum())
    return p / (p + (1 - p) * keep_rate), keep_rate, np.isin(np.arange(rows), positives).astype(int)


FEW = _sample(0, rows=300, mean=0.03, ratio=1.3, keep_rate=0.1)
MANY = _sample(1, rows=20_000, mean=0.1, ratio=1.08, keep_rate=0.2)
EVEN = _sample(2, rows=5_000, mean=0.1, ratio=1.01, keep_rate=0.05)
TOO_HIGH = _sample(3, rows=5_000, mean=0.1, ratio=0.8, keep_rate=0.5)
SAMPLES = [FEW, MANY, EVEN, TOO_HIGH]


def _sure(p: np.ndarray, label: np.ndarray) -> bool:
    """Whether the 95% interval of observed / expected excludes 1."""
    return bool(abs(label.sum() - p.sum()) > norm.ppf(0.975) * np.sqrt((p * (1 - p)).sum()))


def _checked(
    raw: np.ndarray,
    keep_rate: float,
    label: np.ndarray,
    undo: Callable[[np.ndarray, float], np.ndarray] = _undo,
    ratio: Callable[[np.ndarray, np.ndarray, np.ndarray], float] = lambda p, label, _: label.sum() / p.sum(),
    recalibrate: Callable[[np.ndarray, np.ndarray], bool] = _sure,
) -> dict[str, Any]:
    p = undo(raw, keep_rate)
    return {
        "probabilities": p,
        "observed_over_expected": ratio(p, label, raw),
        "recalibrate": recalibrate(p, label),
    }


def _same_entry(key: str) -> Callable[[Mapping, Mapping], bool]:
    return lambda reply, right: close(reply[key], right[key])


def _same_entries(reply: Mapping, right: Mapping) -> bool:
    return all(_same_entry(key)(reply, right) for key in right)


def _decides(sample: tuple, decision: bool) -> Callable[[Callable], bool]:
    """A test that is true of functions that decide so on this sample."""
    return replies(sample, decision, lambda reply, right: bool(reply["recalibrate"]) is right)


def _off_by(least: float) -> Callable[..., dict]:
    """The mistake of recalibrating wherever the ratio is so far from 1."""
    return lambda *s: _checked(*s, recalibrate=lambda p, label: abs(label.sum() / p.sum() - 1) > least)


_wrong_probabilities = _mistakes_on(SAMPLES, _same_entry("probabilities"))
_wrong_ratio = _mistakes_on(SAMPLES, _same_entry("observed_over_expected"))

undo_sampling = Exercise(
    title="undo the sampling, then check",
    right=same_as(_checked, SAMPLES, _same_entries),
    reason="The formula is exact for a model that is calibrated on its own sample, which nobody promised. So "
    "count: observed over expected says whether it worked, and its interval whether you can know.",
    mistakes=(
        _wrong_probabilities(
            "not undone",
            "These are the raw probabilities, of a world with too few negatives.",
            lambda *s: _checked(*s, undo=lambda raw, w: raw),
        ),
        _wrong_probabilities(
            "multiplied",
            "You multiplied the probability by the keep rate. Multiply its odds.",
            lambda *s: _checked(*s, undo=lambda raw, w: raw * w),
        ),
        _wrong_probabilities(
            "wrong way",
            "The wrong way: negatives were dropped, so the true probabilities are lower than the raw ones.",
            lambda *s: _checked(*s, undo=lambda raw, w: raw / (raw + (1 - raw) * w)),
        ),
        _wrong_probabilities(
            "odds",
            "These are the right odds. Turn them back into probabilities.",
            lambda *s: _checked(*s, undo=lambda raw, w: w * raw / (1 - raw)),
        ),
        _wrong_ratio(
            "upside down",
            "Upside down: that is expected over observed. Here the count stands on top, since it is what "
            "chance moves.",
            lambda *s: _checked(*s, ratio=lambda p, label, raw: p.sum() / label.sum()),
        ),
        _wrong_ratio(
            "raw ratio",
            "You compare the count with the raw probabilities. The slice has all its negatives, so expect "
            "the sum of the corrected ones.",
            lambda *s: _checked(*s, ratio=lambda p, label, raw: label.sum() / raw.sum()),
        ),
        _wrong_ratio(
            "difference",
            "That is a difference. Divide the observed positives by the expected ones.",
            lambda *s: _checked(*s, ratio=lambda p, label, raw: label.sum() - p.sum()),
            lambda *s: _checked(*s, ratio=lambda p, label, raw: label.mean() - p.mean()),
        ),
        Mistake(
            "covers 1",
            _decides(EVEN, True),
            "You recalibrate although the interval covers 1. Do so when it excludes 1.",
            example=lambda *s: _checked(*s, recalibrate=lambda p, label: not _sure(p, label)),
        ),
        Mistake(
            "few rows",
            _decides(FEW, True),
            f"On few rows a ratio far from 1 may be chance: {_undo(*FEW[:2]).sum():.0f} positives were "
            f"expected once, and {FEW[2].sum()} came. Look at the interval, not at the ratio alone.",
            example=_off_by(0.1),
        ),
        Mistake(
            "many rows",
            _decides(MANY, False),
            "On many rows a ratio near 1 may be surely wrong: the interval is narrow, and excludes it.",
            example=_off_by(1),
        ),
        Mistake(
            "one side",
            _decides(TOO_HIGH, False),
            "You recalibrate only when too many positives came. Expecting too many is wrong as well.",
            example=lambda *s: _checked(
                *s, recalibrate=lambda p, label: _sure(p, label) and label.sum() > p.sum()
            ),
        ),
    ),
    otherwise="Return the three entries of the cell's docstring. If the probabilities p are right, the count "
    "of positives has the mean sum(p) and the variance sum(p * (1 - p)).",
    hints=(
        "Dropping shrank the negative side of the odds; undo it: p = raw / (raw + (1 - raw) / keep_rate).",
        "Expected is the sum of p, observed the sum of the labels.",
        "The half-width of the interval is 1.96 * sqrt(sum(p * (1 - p))) / sum(p).",
    ),
    solution_code="""
import numpy as np

def answer(raw, keep_rate, label):
    p = raw / (raw + (1 - raw) / keep_rate)
    ratio = label.sum() / p.sum()
    half_width = 1.96 * np.sqrt((p * (1 - p)).sum()) / p.sum()
    return {
        "probabilities": p,
        "observed_over_expected": ratio,
        "recalibrate": abs(ratio - 1) > half_width,
    }
""",
    probe=FEW,
)

# ------------------------------------------------------------------ 6 an interval around zero

DECISIONS = ("new", "old", "more data")
GAINS = [  # low, high, cost_old, cost_new, smallest_gain
    (1.5, 3.0, 10, 12, 1),
    (0.2, 0.8, 10, 12, 1),
    (-0.3, 0.6, 10, 12, 1),
    (-0.5, 3.1, 10, 12, 1),
    (0.4, 2.0, 10, 12, 1),
    (-0.6, 0.4, 12, 10, 1),
    (-2.5, 0.3, 12, 10, 1),
    (-1.8, 3.2, 12, 10, 1),
    (-3.0, -1.5, 12, 10, 1),
    (-0.8, -0.2, 12, 10, 1),
    (0.3, 0.7, 10, 10, 1),
    (2.0, 6.0, 5, 9, 3),
    (-2.0, -0.5, 9, 5, 3),
]


def _bar(cost_old: float, cost_new: float, smallest_gain: float) -> float:
    """The difference that the new model must exceed."""
    return -smallest_gain if cost_new < cost_old else smallest_gain


def _against(low: float, high: float, bar: float) -> str:
    return "new" if low > bar else "old" if high < bar else "more data"


def _decision(low: float, high: float, *rest: float) -> str:
    return _against(low, high, _bar(*rest))


def _cheaper(low: float, high: float, cost_old: float, cost_new: float, gain: float) -> str:
    return "new" if cost_new < cost_old else "old"


_gain_mistake = _mistakes_on(GAINS, _same_word)

zero_interval = Exercise(
    title="an interval around zero",
    right=same_as(_decision, GAINS, _same_word),
    reason="Zero is not the bar. A dearer model must gain enough to pay for itself, a cheaper one may lose a "
    "little; and an interval with the bar inside says only that you do not know yet.",
    mistakes=(
        Mistake(
            "unknown",
            lambda a: any(str(a(*gain)).strip().lower() not in DECISIONS for gain in GAINS),
            'Return one of "new", "old" and "more data".',
            example=lambda *gain: "equal",
        ),
        _gain_mistake(
            "zero",
            "You compare with zero. A gain that is surely above zero may still be too small to pay; compare "
            "with the bar.",
            lambda low, high, *rest: _against(low, high, 0),
        ),
        _gain_mistake(
            "no cost",
            "The costs have no say in your rule. A cheaper model may lose a little: its bar is "
            "-smallest_gain.",
            lambda low, high, old, new, gain: _against(low, high, gain),
        ),
        _gain_mistake(
            "costs swapped",
            "You ask more of the cheaper model than of the dearer one. Turn the bars around.",
            lambda low, high, old, new, gain: _against(low, high, _bar(new, old, gain)),
            lambda low, high, old, new, gain: _against(low, high, -gain if new > old else gain),
        ),
        _gain_mistake(
            "same cost",
            "At the same cost you let the new model lose. A launch is work: it must gain, unless it is "
            "*cheaper*.",
            lambda low, high, old, new, gain: _against(low, high, -gain if new <= old else gain),
        ),
        _gain_mistake(
            "no margin",
            "You let a cheaper model lose nothing at all. A loss below smallest_gain is worth its saving: "
            "the bar is -smallest_gain.",
            lambda low, high, old, new, gain: _against(low, high, 0 if new < old else gain),
        ),
        _gain_mistake(
            "mean",
            "You look at the middle of the interval only. It never asks for more data, however little there "
            "was.",
            lambda low, high, *rest: "new" if low + high > 0 else "old",
            lambda low, high, old, new, gain: "new" if (low + high) / 2 > gain else "old",
            lambda low, high, *rest: "new" if (low + high) / 2 > _bar(*rest) else "old",
        ),
        _gain_mistake(
            "equal",
            'You read an interval that covers zero as "equal". It may hold a gain that pays and a loss '
            "that hurts: then you do not know yet.",
            lambda low, high, *rest: _cheaper(low, high, *rest) if low < 0 < high else _against(low, high, 0),
            lambda low, high, *rest: "old" if low < 0 < high else _against(low, high, 0),
            lambda low, high, *rest: (
                _cheaper(low, high, *rest) if low < 0 < high else _decision(low, high, *rest)
            ),
            lambda low, high, *rest: "old" if low < 0 < high else _decision(low, high, *rest),
            lambda low, high, *rest: "new" if low > 0 else "old",
        ),
        _gain_mistake(
            "zero means more data",
            "You ask for more data whenever the interval covers zero. If it is wholly on one side of the "
            "bar, more data would change nothing.",
            lambda low, high, *rest: "more data" if low < 0 < high else _decision(low, high, *rest),
        ),
        _gain_mistake(
            "cheapest",
            "You take the cheaper one, whatever the interval says.",
            _cheaper,
        ),
        _gain_mistake(
            "never more data",
            "You never ask for more data. With the bar inside the interval either answer may be wrong.",
            lambda low, high, *rest: "new" if low > _bar(*rest) else "old",
            lambda low, high, *rest: "new" if high > _bar(*rest) else "old",
        ),
        _gain_mistake(
            "never old",
            "You never keep the old model. If the whole interval is below the bar, the matter is settled.",
            lambda low, high, *rest: "new" if low > _bar(*rest) else "more data",
        ),
    ),
    otherwise="First the bar: -smallest_gain if cost_new < cost_old, else smallest_gain. Then three cases: "
    "the interval is above it, below it, or has it inside.",
    hints=(
        "What must the new model exceed? That depends on the costs, not on the interval.",
        "Compare `low` with the bar, then `high`.",
        "If neither end settles it, the bar is inside.",
    ),
    solution_code="""
def answer(low, high, cost_old, cost_new, smallest_gain):
    bar = -smallest_gain if cost_new < cost_old else smallest_gain
    if low > bar:
        return "new"
    if high < bar:
        return "old"
    return "more data"
""",
    probe=GAINS[0],
)

# ------------------------------------------------------------------ 7 the slice that got worse

Changes = tuple[str, ArrayLike]  # a slice, and the change of loss of each of its users


def _changes(name: str, users: int, mean: float, deviation: float) -> Changes:
    return name, mean + deviation * _standard(users, 1, seed=users)[:, 0]


def _losses(*slices: Changes, rows_of_first: int = 4) -> tuple[pd.DataFrame]:
    """A table of losses with four rows a user; the very first user has `rows_of_first`."""
    names = np.repeat([name for name, _ in slices], [len(change) for _, change in slices])
    change = np.concatenate([change for _, change in slices])
    rng = np.random.default_rng(0)
    old = 3 + rng.normal(size=len(change))  # users differ far more than the two models do
    rows = np.repeat(np.arange(len(change)), np.where(np.arange(len(change)), 4, rows_of_first))
    noise = rng.normal(scale=0.3, size=len(rows))
    table = {"slice": names[rows], "user": rows, "loss_old": old[rows] + noise}
    return (pd.DataFrame(table | {"loss_new": table["loss_old"] + change[rows]}),)


PHONE, DESKTOP = _changes("phone", 400, -0.10, 0.2), _changes("desktop", 200, -0.04, 0.2)
HIDDEN = _losses(PHONE, DESKTOP, _changes("tablet", 60, 0.03, 0.05))
PLAIN = _losses(("phone", PHONE[1] - 1), _changes("tablet", 60, 2, 0.1))
TINY = _losses(PHONE, DESKTOP, ("television", [1.2, -0.6, 0.5]))
HEAVY = _losses(("desktop", np.r_[0.4, _changes("", 40, 0, 0.05)[1]]), PHONE, rows_of_first=300)
LOOKS = _losses(
    PHONE,
    *(
        _changes(f"country {i}", 30 + i, z * 0.2 / np.sqrt(30 + i), 0.2)
        for i, z in enumerate(np.r_[np.linspace(-2, 1, 18), 2.4], 1)
    ),
)
LOSS_TABLES = [HIDDEN, PLAIN, TINY, HEAVY, LOOKS]


def _worst(scores: pd.Series, bar: float) -> str:
    """The slice with the highest score, if that is above the bar."""
    return scores.idxmax() if scores.max() > bar else "none"


def _difference(table: pd.DataFrame) -> pd.Series:
    return table["loss_new"] - table["loss_old"]


def _user_changes(table: pd.DataFrame) -> pd.core.groupby.SeriesGroupBy:
    """The mean change of each user, grouped by slice."""
    return _difference(table).groupby([table["slice"], table["user"]]).mean().groupby(level="slice")


def _z(changes: pd.core.groupby.SeriesGroupBy) -> pd.Series:
    return changes.mean() / changes.sem()


def _at(slices: int) -> float:
    """The bar for the largest of so many z-scores, where 5% of all searches may raise a false alarm."""
    return norm.ppf(1 - 0.05 / slices)


def _worse_slice(table: pd.DataFrame) -> str:
    return _worst(_z(_user_changes(table)), _at(table["slice"].nunique()))


def _unpaired(table: pd.DataFrame) -> str:
    users = table.groupby(["slice", "user"])[["loss_old", "loss_new"]].mean().groupby(level="slice")
    error = np.sqrt((users.sem() ** 2).sum(axis=1))
    return _worst(users.mean().diff(axis=1)["loss_new"] / error, _at(table["slice"].nunique()))


def _names(table: tuple[pd.DataFrame], name: str) -> Callable[[Callable], bool]:
    return replies(table, name, _same_word)


worse_slice = Exercise(
    title="the slice that got worse",
    right=same_as(_worse_slice, LOSS_TABLES, _same_word),
    reason="The average forgives. Pair the losses, so that hard users cancel; count each user once, since "
    "the rows of one are alike; and ask more of the worst of many slices than of one chosen beforehand.",
    mistakes=(
        Mistake(
            "better",
            _names(HIDDEN, "phone"),
            "You named a slice that got better. These are losses: new minus old above zero is worse.",
            example=lambda t: _worst(-_z(_user_changes(t)), _at(t["slice"].nunique())),
        ),
        Mistake(
            "average only",
            _names(PLAIN, "none"),
            "You see no slice that got worse, even where the loss of one rose from 3 to 5. The average hides "
            "it: group by `slice`.",
            example=lambda t: "none",
        ),
        Mistake(
            "largest change",
            _names(TINY, "television"),
            "You named a slice of three users. Its mean change is the largest, and could be anything: ask "
            "for the interval.",
            example=lambda t: _worst(_user_changes(t).mean(), 0),
        ),
        Mistake(
            "rows",
            _names(HEAVY, "desktop"),
            "One user with hundreds of rows decides your answer. Take the mean of each user first, then "
            "count users.",
            example=lambda t: _worst(_z(_difference(t).groupby(t["slice"])), _at(t["slice"].nunique())),
        ),
        Mistake(
            "unpaired",
            _names(HIDDEN, "none"),
            "You missed a slice that got surely worse. Users differ more than the models do: subtract "
            "within each user before you compute the interval.",
            example=_unpaired,
        ),
        Mistake(
            "many looks",
            _names(LOOKS, "country 19"),
            "Of twenty slices, one looks bad by chance. Divide the 5% by the number of slices.",
            example=lambda t: _worst(_z(_user_changes(t)), norm.ppf(0.975)),
        ),
    ),
    otherwise='Return the name of one slice, or "none". For each slice: the mean change of its users, '
    "divided by its standard error.",
    hints=(
        "loss_new - loss_old, then the mean of each user.",
        "Over the users of a slice: z = mean / standard error (`.sem()`).",
        "With s slices the bar is `norm.ppf(1 - 0.05 / s)`. Is the largest z above it?",
    ),
    solution_code="""
from scipy.stats import norm

def answer(table):
    change = table["loss_new"] - table["loss_old"]
    users = change.groupby([table["slice"], table["user"]]).mean().groupby(level="slice")
    z = users.mean() / users.sem()
    return z.idxmax() if z.max() > norm.ppf(1 - 0.05 / len(z)) else "none"
""",
    probe=HIDDEN,
)

# ------------------------------------------------------------------ 8 fused value

WEIGHTS = pd.Series({"finish": 1.0, "dismiss": -8.0, "like": 2.0})
OBSERVED = pd.Series({"dismiss": 0.02, "like": 0.08, "finish": 0.35})


def _release(seed: int, **factors: float) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Heads that predict what was observed on average, each times its factor."""
    rng = np.random.default_rng(seed)
    names = ["like", "finish", "dismiss"]
    heads = pd.DataFrame(rng.gamma(2, size=(8, 3)), columns=names)
    return heads / heads.mean() * OBSERVED[names] * pd.Series(factors), OBSERVED, WEIGHTS


RELEASES = [
    _release(0, like=1, finish=1, dismiss=2),
    _release(1, like=1.5, finish=1, dismiss=1),
    _release(2, like=0.8, finish=1.1, dismiss=2),
]


def _fused(heads: pd.DataFrame, observed: pd.Series, weights: pd.Series) -> pd.Series:
    return (heads * observed / heads.mean() * weights).sum(axis=1)


def _rescaled(scale: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[..., pd.Series]:
    """The mistake of scaling the heads without a look at what was observed."""
    return lambda heads, observed, weights: (scale(heads) * weights).sum(axis=1)


_value_mistake = _mistakes_on(RELEASES)

fused_value = Exercise(
    title="heads on their scale",
    right=same_as(_fused, RELEASES),
    reason="The weights are prices of events, so a head must count events: its mean is what was observed. "
    "Then a release that doubles a head changes no feed. The check is calibration in the large; it does not "
    "see a head that is wrong in two slices in opposite ways.",
    mistakes=(
        _value_mistake(
            "as they are",
            "You use the heads as they are. A doubled head doubles its weight: a new policy that nobody "
            "decided.",
            _rescaled(lambda heads: heads),
        ),
        _value_mistake(
            "halved",
            "You repair one head, and know which. Compare every head with what was observed.",
            _rescaled(lambda heads: heads.assign(dismiss=heads["dismiss"] / 2)),
            lambda heads, observed, weights: _fused(
                heads, heads.mean().where(heads.columns != "dismiss", observed), weights
            ),
        ),
        _value_mistake(
            "standardized",
            "z-scores give a rare head the spread of a common one, and move whenever a release is sharper. "
            "Scale to what was observed.",
            _rescaled(lambda heads: (heads - heads.mean()) / heads.std()),
            _rescaled(lambda heads: (heads - heads.mean()) / heads.std(ddof=0)),
            _rescaled(lambda heads: heads / heads.std()),
        ),
        _value_mistake(
            "ranked",
            "Ranks forget by how much: a certain dismissal counts like the next one. Keep probabilities.",
            _rescaled(lambda heads: heads.rank()),
            _rescaled(lambda heads: heads.rank(pct=True)),
        ),
        _value_mistake(
            "between 0 and 1",
            "You stretch each head to reach from 0 to 1, so its two extremes decide. Scale to what was "
            "observed.",
            _rescaled(lambda heads: (heads - heads.min()) / (heads.max() - heads.min())),
            _rescaled(lambda heads: heads / heads.max()),
        ),
        _value_mistake(
            "mean of 1",
            "You gave every head the mean 1, so a rare event counts like a common one. Multiply by what was "
            "observed.",
            _rescaled(lambda heads: heads / heads.mean()),
        ),
        _value_mistake(
            "upside down",
            "Upside down: a head that predicts twice as much as was observed must be halved.",
            lambda heads, observed, weights: _fused(heads, heads.mean() ** 2 / observed, weights),
        ),
        _value_mistake(
            "shifted",
            "You moved the heads by a constant, which changes no order. Multiply.",
            lambda heads, observed, weights: ((heads + observed - heads.mean()) * weights).sum(axis=1),
        ),
        _value_mistake(
            "weights to 1",
            "You divided the weights by their sum. They are prices; leave them as they are.",
            lambda heads, observed, weights: _fused(heads, observed, weights / weights.sum()),
            lambda heads, observed, weights: _fused(heads, observed, weights / weights.abs().sum()),
        ),
        _value_mistake(
            "no sign",
            "A dismissal costs: keep the sign of its weight.",
            lambda heads, observed, weights: _fused(heads, observed, weights.abs()),
        ),
        _value_mistake(
            "by position",
            "You matched heads, means and weights by their place. They come in different orders: match by "
            "name.",
            lambda heads, observed, weights: (
                heads.to_numpy() * (observed.to_numpy() / heads.mean().to_numpy()) @ weights.to_numpy()
            ),
            lambda heads, observed, weights: (
                (heads * observed / heads.mean())[heads.columns] @ weights.to_numpy()
            ),
        ),
        _value_mistake(
            "mean value",
            "That is one number for the release. Return one for each row.",
            lambda *release: _fused(*release).mean(),
        ),
    ),
    otherwise="By hand: a head with the mean 0.04 where 0.02 was observed is multiplied by one half; then "
    "weight times head, added up in each row.",
    hints=(
        "One factor for each head. What is it for a head that predicts twice as much as happens?",
        "factor = observed / heads.mean(); pandas matches the names.",
        "`(heads * factor * weights).sum(axis=1)`.",
    ),
    solution_code="""
def answer(heads, observed, weights):
    factor = observed / heads.mean()
    return (heads * factor * weights).sum(axis=1)
""",
    probe=RELEASES[0],
)

# ------------------------------------------------------------------ 9 pick a model


def _costs(**models: tuple[float, float, float]) -> pd.DataFrame:
    """A table of costs with a row for each model."""
    table = pd.DataFrame.from_dict(models, orient="index", columns=["ms", "mb", "train_s"])
    return table.rename(index=lambda name: name.replace("_", " "))


def _scores(rows: int, seed: int) -> pd.DataFrame:
    """Scores of the models for the same users, who differ far more than the models do.

    The stack is the best but for the network. Surely worse: the linear model and the few trees; not surely:
    the trees and the small network. The network is surely better than the trees only.
    """
    user, few, trees, network, small = _standard(rows, 5, seed).T
    own = {  # what a model adds to the score of each user
        "stack": np.zeros(rows),
        "network": 0.008 + 0.16 * trees + 0.04 * network,
        "trees": -0.004 + 0.16 * trees,
        "linear": -0.2 + 0.1 * few,
        "small network": -0.001 + 0.02 * small,
        "few trees": -0.01 + 0.03 * few,
    }
    return pd.DataFrame({name: 0.4 + 0.2 * user + added for name, added in own.items()})


FIELDS = [
    (
        _scores(400, seed=0),
        _costs(
            linear=(1, 1, 5),
            few_trees=(4, 20, 60),
            trees=(9, 90, 300),
            small_network=(25, 15, 120),
            stack=(32, 200, 600),
            network=(70, 300, 1800),
        ),
        40,
    ),
    (
        _scores(500, seed=1),
        _costs(
            network=(90, 80, 900),
            stack=(45, 30, 200),
            small_network=(30, 60, 700),
            trees=(12, 50, 400),
            few_trees=(6, 30, 90),
            linear=(2, 2, 20),
        ),
        60,
    ),
]


def _within(scores: pd.DataFrame, costs: pd.DataFrame, budget_ms: float) -> pd.DataFrame:
    return scores[costs.index[costs["ms"] <= budget_ms]]


def _not_surely_below(scores: pd.DataFrame, best: pd.Series) -> pd.Index:
    """The models whose interval of the paired difference to `best` reaches zero."""
    below = scores.rsub(best, axis=0)
    return scores.columns[below.mean() <= 1.96 * below.sem()]


def _best(scores: pd.DataFrame) -> pd.Series:
    return scores[scores.mean().idxmax()]


def _cheapest(costs: pd.DataFrame, names: pd.Index, cost: str = "ms") -> str:
    return costs.loc[names, cost].idxmin()


def _pick(scores: pd.DataFrame, costs: pd.DataFrame, budget_ms: float, cost: str = "ms") -> str:
    fits = _within(scores, costs, budget_ms)
    return _cheapest(costs, _not_surely_below(fits, _best(fits)), cost)


def _overlapping(scores: pd.DataFrame, costs: pd.DataFrame, budget_ms: float) -> str:
    fits = _within(scores, costs, budget_ms)
    high = fits.mean() + 1.96 * fits.sem()
    low = (fits.mean() - 1.96 * fits.sem())[fits.mean().idxmax()]
    return _cheapest(costs, fits.columns[high >= low])


_model_mistake = _mistakes_on(FIELDS, _same_word)

pick_model = Exercise(
    title="pick the model",
    right=same_as(_pick, FIELDS, _same_word),
    reason="First the budget, which is a promise. Then those that the test cannot tell from the best, "
    "compared user by user. Of these the cheapest: what you save buys the next feature.",
    mistakes=(
        _model_mistake(
            "no budget",
            "Your model is over the budget. However good it is, it cannot be served.",
            lambda s, c, b: s.mean().idxmax(),
        ),
        _model_mistake(
            "highest mean",
            "You took the highest mean within the budget. A cheaper model is not surely below it.",
            lambda s, c, b: _within(s, c, b).mean().idxmax(),
        ),
        _model_mistake(
            "best of all",
            "You compare with the best of all models, which is over the budget. Nobody can have that one.",
            lambda s, c, b: _cheapest(c, _not_surely_below(_within(s, c, b), _best(s))),
            lambda s, c, b: _pick(s, c, np.inf),
        ),
        _model_mistake(
            "own intervals",
            "You compare the models' own intervals, which overlap since users differ. The same users saw "
            "all models: take the interval of the difference.",
            _overlapping,
        ),
        _model_mistake(
            "cheapest",
            "You took the cheapest of all, which is surely below the best.",
            lambda s, c, b: c["ms"].idxmin(),
        ),
        _model_mistake(
            "other cost",
            "You took the least memory or training. Here the cheapest is the one with the least `ms`: "
            "machines are bought for serving.",
            lambda s, c, b: _pick(s, c, b, cost="mb"),
            lambda s, c, b: _pick(s, c, b, cost="train_s"),
        ),
    ),
    otherwise="Return a name. Three steps: the models within the budget; of these, the ones whose interval "
    "of (best - model), over users, reaches zero; of these, the one with the least ms.",
    hints=(
        "Filter by budget first, then look for the best mean among what is left.",
        "For each model: difference to the best, user by user; its mean, and 1.96 standard errors.",
        "The best has a difference of zero to itself, so at least one model is left. Then `idxmin` of ms.",
    ),
    solution_code="""
def answer(scores, costs, budget_ms):
    fits = scores[costs.index[costs["ms"] <= budget_ms]]
    best = fits[fits.mean().idxmax()]
    below = fits.rsub(best, axis=0)
    near = below.columns[below.mean() <= 1.96 * below.sem()]
    return costs.loc[near, "ms"].idxmin()
""",
    probe=FIELDS[0],
)

ALL = (
    ladder_choice,
    log_q,
    debias_clicks,
    calibration_slice,
    undo_sampling,
    zero_interval,
    worse_slice,
    fused_value,
    pick_model,
)
