"""A small platform, its log and a release of it, for the tests of the service."""

from functools import cache
from typing import NamedTuple

import pandas as pd

from helpers.releases import Release, build_release, fill_store, publish
from helpers.simulator import Platform, random_policy

DAYS = 4


class Small(NamedTuple):
    """The platform, its log up to the midnight of the release and of the day after, and the release."""

    platform: Platform
    log: pd.DataFrame
    next_day: pd.DataFrame
    release: Release


@cache
def small() -> Small:
    """The same objects for every test of a process; none may change them."""
    platform = Platform(
        n_users=150, n_videos=300, n_topics=4, n_creators=60, days=10, n_candidates=30, n_slots=5
    )
    log = platform.simulate(random_policy(), DAYS)
    next_day = platform.simulate(random_policy(), range(DAYS, DAYS + 1))
    return Small(platform, log, next_day, build_release(platform, log, days=2, trees=20, candidates=100))


def deploy(directory):
    """Fill a directory with a store and the release; return it."""
    fill_store(small().platform, small().log, directory)
    publish(small().release, directory)
    return directory
