"""Larger real data for those who have internet; no notebook needs it.

A download starts only with your consent to the license. It goes on where it stopped, is checked against the
publisher's md5, and appears under its name in one step. Archives are read in place: nothing is unpacked.
"""

import hashlib
import tarfile
import urllib.request
import zipfile
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd
import pandera.pandas as pa
from tqdm import tqdm

from helpers.datasets import MOVIELENS_FILMS, MOVIELENS_RATINGS, DatasetError, conform, table

CACHE = Path.home() / ".cache" / "ml-system-design"
TIMEOUT_SECONDS = 30
BLOCK_BYTES = 2**20


class Archive(NamedTuple):
    """A file to download: its address, exact size in bytes, published md5, and license in a few words."""

    name: str
    url: str
    size_bytes: int
    md5: str
    license: str


KUAIRAND_PURE = Archive(
    name="KuaiRand-Pure.tar.gz",
    url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
    size_bytes=47_432_272,
    md5="0820331067a3784d9691136f772b35a7",
    license="CC BY-SA 4.0: name the source (Gao et al. 2022, KuaiRand), and share what you derive from it "
    "under the same license.",
)
MOVIELENS_32M = Archive(
    name="ml-32m.zip",
    url="https://files.grouplens.org/datasets/movielens/ml-32m.zip",
    size_bytes=238_950_008,
    md5="d472be332d4daa821edc399621853b57",
    license="GroupLens terms: no commercial use without permission, cite Harper & Konstan 2015, pass it on "
    "only under the same terms, and claim no endorsement by the University of Minnesota.",
)

SIGNALS = {
    "is_click": "clicked",
    "long_view": "long_viewed",
    "is_like": "liked",
    "is_follow": "followed",
    "is_comment": "commented",
    "is_forward": "forwarded",
    "is_hate": "disliked",
    "is_rand": "randomly_shown",
}
KUAIRAND_LOGS = [
    f"KuaiRand-Pure/data/log_{name}_pure.csv"
    for name in ["standard_4_08_to_4_21", "standard_4_22_to_5_08", "random_4_22_to_5_08"]
]
KUAIRAND = table(
    timestamp=pa.Column("datetime64[ms]", pa.Check.in_range(*pd.to_datetime(["2022-04-07", "2022-05-10"]))),
    user_id=pa.Column("int32", pa.Check.ge(0)),
    video_id=pa.Column("int32", pa.Check.ge(0)),
    tab=pa.Column("int8", pa.Check.in_range(0, 14)),
    watch_seconds=pa.Column("float64", pa.Check.ge(0)),
    video_seconds=pa.Column("float64", pa.Check.ge(0)),
    **{signal: pa.Column(bool) for signal in SIGNALS.values()},
)


def load_kuairand_pure(
    consent: bool = False, folder: Path | None = None, archive: Archive = KUAIRAND_PURE
) -> pd.DataFrame:
    """Return the impressions of KuaiRand-Pure, a short-video app, one row an impression, in order of time.

    `timestamp`: UTC, to the millisecond. `tab`: the place in the app, 0 to 14. `watch_seconds` and
    `video_seconds`: seconds. `clicked` ... `disliked`: did the user do it? `long_viewed`: watched to the end,
    or 18 seconds of a longer video. `randomly_shown`: chosen at random instead of recommended.

    With `consent=True` the archive (47 MB) is downloaded into `folder` (None: the cache folder) if it is not
    there yet. Raises DatasetError without consent, and if download, checksum or schema fail.
    Source: Gao et al. 2022, "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
    Videos"; definitions of the signals as in its README.
    """
    path = fetch(archive, consent, folder)
    with tarfile.open(path) as members:
        logs = [pd.read_csv(members.extractfile(log)) for log in KUAIRAND_LOGS]
    raw = pd.concat(logs, ignore_index=True).sort_values("time_ms", kind="stable", ignore_index=True)
    frame = raw[["user_id", "video_id", "tab"]].astype(
        {"user_id": "int32", "video_id": "int32", "tab": "int8"}
    )
    frame.insert(0, "timestamp", raw["time_ms"].astype("datetime64[ms]"))
    frame[["watch_seconds", "video_seconds"]] = raw[["play_time_ms", "duration_ms"]] / 1000
    frame[[*SIGNALS.values()]] = raw[[*SIGNALS]] == 1
    return conform(frame, KUAIRAND, archive.name, _read_it_yourself(path))


def load_movielens_32m(
    consent: bool = False, folder: Path | None = None, archive: Archive = MOVIELENS_32M
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ratings (32 million rows, 0.6 GB of memory) and films of MovieLens 32M.

    The columns, units and order are those of `load_movielens_ratings` and `load_movielens_films`.

    With `consent=True` the archive (239 MB) is downloaded into `folder` (None: the cache folder) if it is not
    there yet. Raises DatasetError without consent, and if download, checksum or schema fail.
    Source: Harper & Konstan 2015, "The MovieLens Datasets: History and Context".
    """
    path = fetch(archive, consent, folder)
    with zipfile.ZipFile(path) as members:
        ratings = _ratings(members.open("ml-32m/ratings.csv"))
        films = _films(members.open("ml-32m/movies.csv"))
    repair = _read_it_yourself(path)
    return (
        conform(ratings, MOVIELENS_RATINGS, archive.name, repair),
        conform(films, MOVIELENS_FILMS, archive.name, repair),
    )


def _ratings(csv: IO[bytes]) -> pd.DataFrame:
    names = ["user_id", "movie_id", "rating", "rated_at"]
    dtypes = dict(zip(names, ["int32", "int32", "float32", "int64"], strict=True))
    ratings = pd.read_csv(csv, names=names, header=0, dtype=dtypes)
    # The publisher sorts by user and film, so a stable sort by time keeps that order within a second.
    ratings = ratings.sort_values("rated_at", kind="stable", ignore_index=True)
    return ratings.astype({"rated_at": "datetime64[s]"})


def _films(csv: IO[bytes]) -> pd.DataFrame:
    """Split "Toy Story (1995)" into title and year; leave null what is not known."""
    raw = pd.read_csv(csv, dtype={"movieId": "int32"})
    named = raw["title"].str.extract(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?\s*$")
    return pd.DataFrame(
        {
            "movie_id": raw["movieId"],
            "title": named["title"],
            "year": pd.to_numeric(named["year"]).astype("Int16"),
            "genres": raw["genres"].replace("(no genres listed)", None),
        }
    ).sort_values("movie_id", ignore_index=True)


def fetch(archive: Archive, consent: bool, folder: Path | None = None) -> Path:
    """Return the path of the whole, checked archive in the folder; download what is missing of it.

    Raises DatasetError without consent, if the connection fails, or if the checksum is wrong twice.
    """
    terms = f"License of {archive.name} ({archive.size_bytes / 1e6:,.0f} MB): {archive.license}"
    if consent is not True:
        raise DatasetError(f"{terms} If you accept this license, call again with consent=True.")
    path = Path(folder or CACHE) / archive.name
    if not path.exists() or _md5(path) != archive.md5:
        print(terms)
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(archive, path)
    return path


def _download(archive: Archive, path: Path) -> None:
    """Fetch the archive beside its place, move it there when it is right, start afresh once if it is not."""
    part = path.with_name(path.name + ".part")
    for _ in range(2):
        _complete(archive, part)
        found = _md5(part)
        if found == archive.md5:
            part.replace(path)
            return
        part.unlink()
    raise DatasetError(
        f"{archive.name} arrived twice with the wrong content: expected md5 {archive.md5}, found {found}. "
        "The publisher may have changed the file, or something on the way alters it. Nothing was kept."
    )


def _complete(archive: Archive, part: Path) -> None:
    """Append to the part until it is whole; after a cut go on, as long as every attempt brings something."""
    while (before := _size(part)) < archive.size_bytes:
        failure = _append(archive, part)
        if _size(part) <= before:
            raise DatasetError(
                f"{archive.name} could not be downloaded: {failure}. {_size(part):,} of "
                f"{archive.size_bytes:,} bytes are kept; call again to go on. You can also fetch "
                f"{archive.url} yourself and put it at {part.with_suffix('')}."
            )


def _append(archive: Archive, part: Path) -> str:
    """Ask for the bytes after the part, append them, and say why it ended."""
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={_size(part)}-"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            _save(response, part, archive)
    except (OSError, HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    return "the server closed the connection early"


def _save(response: HTTPResponse, part: Path, archive: Archive) -> None:
    resumed = response.status == 206  # a server that ignores the range answers 200 and sends everything again
    start = _size(part) if resumed else 0
    bar = tqdm(desc=archive.name, total=archive.size_bytes, initial=start, unit="B", unit_scale=True)
    with bar, part.open("ab" if resumed else "wb") as file:
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))


def _read_it_yourself(path: Path) -> str:
    return f"Its checksum is right, so this loader is at fault; the archive is at {path}, read it yourself."


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    """Return the md5 of the file; the publishers give no better checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
