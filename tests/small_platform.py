"""A made-up video platform with ties in time, a few hundred impressions, for the tests of the features."""

from typing import NamedTuple

import numpy as np
import pandas as pd

START = pd.Timestamp("2025-01-06").as_unit("us")


class World(NamedTuple):
    """The three tables of a platform."""

    log: pd.DataFrame
    users: pd.DataFrame
    videos: pd.DataFrame


def small_world(requests: int = 100, shown: int = 4, seconds: int = 3600, seed: int = 0) -> World:
    """A log with `shown` impressions of one timestamp in each request; several requests share a second."""
    rng = np.random.default_rng(seed)
    users, videos = make_users(rng, max(3, requests // 10)), make_videos(rng, 40)
    rows = requests * shown
    video = np.concatenate([rng.choice(len(videos), shown, replace=False) for _ in range(requests)])
    clicked = rng.random(rows) < 0.3
    watched = clicked * rng.random(rows) * videos["duration_seconds"].to_numpy()[video]
    time = np.sort(rng.integers(0, seconds, requests)).repeat(shown)
    log = {
        "timestamp": START + pd.to_timedelta(time, unit="s").as_unit("us"),
        "request_id": np.arange(requests).repeat(shown),
        "user_id": rng.choice(users["user_id"], requests).repeat(shown),
        "video_id": videos["video_id"].to_numpy()[video],
        "position": np.tile(np.arange(1, shown + 1), requests).astype("int16"),
        "propensity": np.float32(0.1),
        "clicked": clicked,
        "watch_seconds": watched.astype("float32"),
        "liked": clicked & (rng.random(rows) < 0.2),
        "dismissed": ~clicked & (rng.random(rows) < 0.05),
        "policy": pd.Categorical(["popular"] * rows),
        "model_version": pd.Categorical(["1"] * rows),
    }
    return World(pd.DataFrame(log), users, videos)


def make_users(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Users with their attributes."""
    columns = {
        "age_band": ["13-17", "18-24", "25-34"],
        "country": ["US", "BR"],
        "device": ["phone", "tv"],
        "language": ["en", "pt"],
    }
    drawn = {name: rng.choice(values, rows) for name, values in columns.items()}
    return pd.DataFrame({"user_id": np.arange(1, rows + 1, dtype="int32"), **drawn})


def make_videos(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Videos with their attributes."""
    columns = {
        "video_id": np.arange(100, 100 + rows, dtype="int32"),
        "topic": rng.choice(["music", "news", "sport"], rows),
        "duration_seconds": rng.integers(10, 600, rows),
        "creator_id": rng.integers(1, rows // 4, rows),
        "language": rng.choice(["en", "pt"], rows),
        "uploaded_at": START - pd.to_timedelta(rng.integers(1, 10**6, rows), unit="s"),
    }
    return pd.DataFrame(columns)
