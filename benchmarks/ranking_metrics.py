"""How fast the metrics are, beside a plain-Python loop, scikit-learn, and a bootstrap of single rows.

Times are medians over repeats. The slow way does a part of the work; its time is extrapolated and marked ~.
The last column is the ratio of the two over all pairs of repeats.
"""

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from helpers import metrics

QUERIES, ITEMS, K = 100_000, 20, 10
ROWS, FRAUDS, RESAMPLES = 85_000, 100, 1_000
REPEATS = 5
PART = 1 / 50  # of the work that the slow way does


def seconds(function: Callable[[], object], repeats: int = REPEATS) -> np.ndarray:
    """Wall time of each of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.array(times)


def row(
    name: str, other: str, ours: Callable[[], object], theirs: Callable[[], object], share: float
) -> dict:
    """One line of the table; `theirs` does `share` of the work, and its time is extrapolated to all of it."""
    fast = seconds(ours)
    slow = seconds(theirs, repeats=3) / share
    low, middle, high = np.quantile(slow[:, None] / fast, [0, 0.5, 1])
    return {
        "what": name,
        "s": f"{np.median(fast):.3f}",
        "beside": other,
        "part": f"{share:.1%}",
        "s, all": f"~{np.median(slow):.2f}",
        "times faster: min / median / max": f"{low:.0f} / {middle:.0f} / {high:.0f}",
    }


def loop_precision(grades: list[int]) -> float:
    """Precision of one list."""
    return sum(g > 0 for g in grades[:K]) / K


def loop_recall(grades: list[int]) -> float:
    """Recall of one list."""
    return sum(g > 0 for g in grades[:K]) / max(1, sum(g > 0 for g in grades))


def loop_reciprocal_rank(grades: list[int]) -> float:
    """Reciprocal rank of one list."""
    return next((1 / rank for rank, g in enumerate(grades[:K], start=1) if g > 0), 0.0)


def loop_average_precision(grades: list[int]) -> float:
    """Average precision of one list."""
    hits, total = 0, 0.0
    for rank, g in enumerate(grades[:K], start=1):
        if g > 0:
            hits += 1
            total += hits / rank
    return total / max(1, min(sum(g > 0 for g in grades), K))


def loop_ndcg(grades: list[int]) -> float:
    """NDCG of one list."""
    found, best = (
        sum(g / math.log2(rank + 1) for rank, g in enumerate(order[:K], start=1))
        for order in (grades, sorted(grades, reverse=True))
    )
    return found / best if best else math.nan


LOOPS = {
    metrics.precision_at_k: loop_precision,
    metrics.recall_at_k: loop_recall,
    metrics.reciprocal_rank: loop_reciprocal_rank,
    metrics.average_precision_at_k: loop_average_precision,
    metrics.ndcg_at_k: loop_ndcg,
}


def ranking_rows(rng: np.random.Generator) -> list[dict]:
    """Each metric against its loop, on the grades of 100,000 ranked lists."""
    grades = rng.choice(4, size=(QUERIES, ITEMS), p=[0.8, 0.1, 0.06, 0.04])
    few = grades[: int(QUERIES * PART)]
    lists = few.tolist()
    rows = [
        row(metric.__name__, "Python loop", partial(metric, grades, K), lambda f=loop: [*map(f, lists)], PART)
        for metric, loop in LOOPS.items()
    ]
    falling = np.tile(-np.arange(ITEMS), (len(few), 1))
    ours, theirs = partial(metrics.ndcg_at_k, grades, K), partial(ndcg_score, few, falling, k=K)
    return [*rows, row("ndcg_at_k", "sklearn ndcg_score", ours, theirs, PART)]


def ranked_row(rng: np.random.Generator) -> dict:
    """Put each list in the order of its scores, with ties."""
    grades, scores = rng.integers(0, 4, (QUERIES, ITEMS)), rng.random((QUERIES, ITEMS)).round(2)
    few = int(QUERIES * PART)
    pairs = list(zip((-scores[:few]).tolist(), grades[:few].tolist(), strict=True))
    return row(
        "ranked",
        "Python loop",
        partial(metrics.ranked, grades, scores),
        lambda: [sorted(zip(score, grade, strict=True)) for score, grade in pairs],
        PART,
    )


def query_auc_row(rng: np.random.Generator) -> dict:
    """ROC-AUC within each query."""
    y, score = rng.random((QUERIES, ITEMS)) < 0.2, rng.random((QUERIES, ITEMS)).round(2)
    query = np.repeat(np.arange(QUERIES), ITEMS)
    few = [q for q in range(QUERIES // 500) if 0 < y[q].sum() < ITEMS]
    return row(
        "query_auc",
        "sklearn roc_auc_score",
        partial(metrics.query_auc, y.ravel(), score.ravel(), query),
        lambda: [roc_auc_score(y[q], score[q]) for q in few],
        1 / 500,
    )


def plain_bootstrap(metric: Callable[..., float], y: np.ndarray, *scores: np.ndarray) -> list[list[float]]:
    """The textbook way: draw rows, recompute the metric of each score on them."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(len(y), size=len(y)) for _ in range(int(RESAMPLES * PART)))
    return [[metric(y[drawn], score[drawn]) for score in scores] for drawn in draws]


def bootstrap_rows(rng: np.random.Generator) -> list[dict]:
    """1,000 resamples of 85,000 rows with 100 positives: cells against rows."""
    y = np.arange(ROWS) < FRAUDS
    a = rng.normal(size=ROWS) + 2 * y
    b = a + 0.5 * rng.normal(size=ROWS)
    cases = [(metrics.bootstrap_interval, (y, a)), (metrics.paired_bootstrap_interval, (y, a, b))]
    return [
        row(
            f"{function.__name__}, {metric.__name__}",
            "sklearn on drawn rows",
            partial(function, metric, *columns, n_resamples=RESAMPLES),
            partial(plain_bootstrap, metric, *columns),
            PART,
        )
        for metric in (average_precision_score, roc_auc_score)
        for function, columns in cases
    ]


def confusion(y: np.ndarray, flagged: np.ndarray) -> tuple[int, int, int, int]:
    """tp, fp, fn, tn of one threshold."""
    return (y & flagged).sum(), (~y & flagged).sum(), (y & ~flagged).sum(), (~y & ~flagged).sum()


def decision_row(rng: np.random.Generator) -> dict:
    """The decision table of 85,000 scores at 1,000 thresholds."""
    y, score = np.arange(ROWS) < FRAUDS, rng.random(ROWS)
    thresholds = np.linspace(0, 1, 1_000)
    return row(
        "decision_table, 1,000 thresholds",
        "numpy per threshold",
        lambda: metrics.decision_table(y, score, thresholds),
        lambda: [confusion(y, score >= t) for t in thresholds[::50]],
        PART,
    )


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    rows = [*ranking_rows(rng), ranked_row(rng), query_auc_row(rng), decision_row(rng), *bootstrap_rows(rng)]
    print(f"{QUERIES:,} queries x {ITEMS} items, k = {K}; {ROWS:,} scored rows, {FRAUDS} positive")
    print("~ extrapolated from the part of the work that was done\n")
    print(pd.DataFrame(rows).to_string(index=False))
    together = sum(float(line["s"]) for line in rows[: len(LOOPS)])
    print(f"\nThe {len(LOOPS)} ranking metrics together: {together:.2f} s")


if __name__ == "__main__":
    main()
