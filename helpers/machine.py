"""Whether this machine can run the notebooks: each thing that they need, found or not, and the repair."""

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from packaging.requirements import Requirement

from helpers import datasets

ROOT = Path(__file__).parents[1]
OLDEST = (3, 11)
DISK_GB, MEMORY_GB = 1, 4  # what the notebooks write at most; what the largest of them holds, with a reserve
SET_UP = "Close JupyterLab and run `python start.py setup`, then start again."
LOADERS = (
    datasets.load_card_fraud,
    datasets.load_movielens_ratings,
    datasets.load_movielens_films,
    datasets.load_open_bandit,
)


class Check(NamedTuple):
    """One thing that is needed: whether it is there, what was found, and the repair if it is not."""

    name: str
    passed: bool
    found: str
    repair: str = ""

    def __str__(self) -> str:
        """Return one line: a mark in words, the name, what was found, and the repair where it failed."""
        mark = "[ OK ]" if self.passed else "[FAIL]"
        return f"{mark} {self.name}: {self.found}" + ("" if self.passed else f" -> {self.repair}")


def environment() -> list[Check]:
    """Return all checks of this machine; none of them raises, and none touches the network."""
    return [*_python(), *_packages(), *_data(), *_room(), *_loopback()]


def _python() -> Iterator[Check]:
    found = platform.python_version()
    repair = f"Install Python {OLDEST[0]}.{OLDEST[1]} or newer, and run `start.py` with it."
    yield Check("Python", sys.version_info[:2] >= OLDEST, found, repair)


def _packages() -> Iterator[Check]:
    """One check for all packages: the first learner's question is whether, the second which."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = [Requirement(line) for line in tomllib.loads(text)["project"]["dependencies"]]
    wrong = [problem for requirement in wanted if (problem := missing(requirement))]
    found = f"{len(wanted)} as they should be" if not wrong else "; ".join(wrong)
    yield Check("packages", not wrong, found, SET_UP)


def missing(requirement: Requirement) -> str:
    """Return what is wrong with an installed package, or an empty text."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} is {version}, not {requirement.specifier}"


def _data() -> Iterator[Check]:
    """Every table is read whole: size, checksum and schema."""
    for loader in LOADERS:
        name = loader.__name__.removeprefix("load_")
        yield _tried(f"data {name}", lambda loader=loader: f"{len(loader()):,} rows, checksum right")


def _tried(name: str, attempt: Callable[[], str]) -> Check:
    """A check that passes unless the attempt raises; the error of a dataset tells its own repair."""
    try:
        return Check(name, True, attempt())
    except (datasets.DatasetError, OSError) as error:
        return Check(name, False, type(error).__name__, str(error))


def _room() -> Iterator[Check]:
    free = shutil.disk_usage(ROOT).free / 1e9
    yield Check("disk", free >= DISK_GB, f"{free:,.0f} GB free", f"Free {DISK_GB} GB on this disk.")
    memory = memory_gb()
    found = "not known on this system" if memory is None else f"{memory:,.0f} GB"
    repair = "Close other programs, and run one notebook at a time."
    yield Check("memory", memory is None or memory >= MEMORY_GB, found, repair)
    yield _tried("temporary files", _write_something)


def memory_gb() -> float | None:
    """Return the memory of the machine, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def _write_something() -> str:
    with TemporaryFile() as file:
        file.write(b"a")
    return "can be written"


def _loopback() -> Iterator[Check]:
    """Notebook 05 starts a service that only this machine can reach."""
    yield _tried("a port for the service", _open_port)


def _open_port() -> str:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return "free"
