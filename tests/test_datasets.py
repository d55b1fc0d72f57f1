"""The committed data, their loaders, their cards, and the script that rebuilds them."""

import hashlib
import importlib.util
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import datasets
from helpers.datasets import (
    DatasetError,
    load_card_fraud,
    load_movielens_films,
    load_movielens_ratings,
    load_open_bandit,
)

FOLDER = datasets.FOLDER
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
LOADERS = {
    "card_fraud.parquet": load_card_fraud,
    "movielens_ratings.parquet": load_movielens_ratings,
    "movielens_films.parquet": load_movielens_films,
    "open_bandit.parquet": load_open_bandit,
}
SMALL = "movielens_films.parquet"


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = script(FOLDER / "build.py")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data folder, in which the loaders look."""
    folder = shutil.copytree(FOLDER, tmp_path / "datasets")
    monkeypatch.setattr(datasets, "FOLDER", folder)
    return folder


# --- what is in the data ------------------------------------------------------------------------------------


def test_the_card_payments_are_the_complete_published_set() -> None:
    payments = load_card_fraud()
    assert payments.shape == (284_807, 31)
    assert payments["is_fraud"].sum() == 492
    assert payments["amount"].sum() == pytest.approx(25_162_590.01, abs=0.005)
    assert payments["seconds"].is_monotonic_increasing and payments["seconds"].max() == 172_792
    assert (payments["amount"] * 100).sub((payments["amount"] * 100).round()).abs().max() < 1e-6


def test_the_components_are_rounded_to_two_decimals() -> None:
    hundredths = load_card_fraud().filter(regex=r"^v\d+$").astype("float64") * 100
    assert hundredths.shape[1] == 28
    assert (hundredths - hundredths.round()).abs().max().max() < 1e-3


def test_the_ratings_are_sorted_and_unique_and_in_half_stars() -> None:
    ratings = load_movielens_ratings()
    assert len(ratings) == 100_004
    assert ratings["user_id"].nunique() == 671 and ratings["movie_id"].nunique() == 9_066
    assert not ratings.duplicated(["user_id", "movie_id"]).any()
    assert ratings.equals(ratings.sort_values(["rated_at", "user_id", "movie_id"], ignore_index=True))
    assert ratings["rated_at"].dtype == "datetime64[s]"
    assert ratings["rated_at"].iloc[[0, -1]].astype("int64").tolist() == [789_652_009, 1_476_640_644]


def test_every_rated_film_is_there_also_without_title_and_year() -> None:
    films = load_movielens_films()
    assert set(films["movie_id"]) == set(load_movielens_ratings()["movie_id"])
    assert films["title"].isna().sum() == films["year"].isna().sum() == 5
    assert films.set_index("movie_id").loc[1].tolist() == [
        "Toy Story",
        1995,
        "Adventure|Animation|Children|Comedy|Fantasy",
    ]
    assert not films["genres"].str.contains("no genres", na=False).any()


@pytest.mark.parametrize(
    ("policy", "campaign", "clicks"),
    [
        ("random", "all", 38),
        ("random", "men", 46),
        ("random", "women", 46),
        ("bts", "all", 42),
        ("bts", "men", 69),
        ("bts", "women", 46),
        (None, None, 287),
        ("bts", None, 157),
        (None, "men", 115),
    ],
)
def test_the_bandit_log_is_filtered_by_policy_and_campaign(
    policy: str | None, campaign: str | None, clicks: int
) -> None:
    log = load_open_bandit(policy, campaign)
    assert len(log) == 10_000 * (1 if policy else 2) * (1 if campaign else 3)
    assert log["clicked"].sum() == clicks
    assert log.index.equals(pd.RangeIndex(len(log)))
    assert policy is None or set(log["policy"]) == {policy}
    assert campaign is None or set(log["campaign"]) == {campaign}


def test_the_random_policy_shows_every_item_with_the_same_probability() -> None:
    for _, log in load_open_bandit("random").groupby("campaign", observed=True):
        assert log["propensity"].to_numpy() == pytest.approx(1 / log["item_id"].nunique())


@pytest.mark.parametrize(("policy", "campaign"), [("ucb", None), (None, "kids")])
def test_an_unknown_policy_or_campaign_is_refused_with_the_choices(
    policy: str | None, campaign: str | None
) -> None:
    with pytest.raises(ValueError, match=r"one of (random, bts|all, men, women); you gave"):
        load_open_bandit(policy, campaign)


@pytest.mark.parametrize("load", LOADERS.values())
def test_a_loader_returns_a_fresh_frame(load: Callable[[], pd.DataFrame]) -> None:
    frame, expected = load(), load()
    frame.iloc[:, 0] = frame.iloc[-1, 0]
    assert not frame.equals(expected)
    assert load().equals(expected)


# --- manifest and cards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", build.RECIPES, ids=lambda recipe: recipe.file)
def test_the_manifest_states_what_the_file_holds(recipe: SimpleNamespace) -> None:
    frame, entry = LOADERS[recipe.file](), MANIFEST["files"][recipe.file]
    content = (FOLDER / recipe.file).read_bytes()
    assert entry["rows"] == len(frame)
    assert entry["bytes"] == len(content)
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["figures"] == recipe.figures(frame)
    assert entry["source"] == recipe.source._asdict()


def test_the_manifest_lists_exactly_the_committed_files() -> None:
    assert set(MANIFEST["files"]) == {path.name for path in FOLDER.glob("*.parquet")} == set(LOADERS)


@pytest.mark.parametrize("card", sorted(FOLDER.glob("*.md")), ids=lambda card: card.name)
def test_the_cards_state_what_the_manifest_says(card: Path) -> None:
    text = card.read_text(encoding="utf-8")
    assert build.with_facts(text, MANIFEST) == text
    wrong = json.loads(json.dumps(MANIFEST))
    for entry in wrong["files"].values():
        entry["rows"] += 1
    assert build.with_facts(text, wrong) != text


def test_every_file_has_its_facts_in_a_card_and_every_column_is_explained() -> None:
    cards = "".join(card.read_text(encoding="utf-8") for card in FOLDER.glob("*.md"))
    for file, load in LOADERS.items():
        assert cards.count(f"<!-- facts: {file}, written by build.py -->") == 1
        columns = [column for column in load() if not re.fullmatch(r"v\d+|user_feature_\d", column)]
        assert [column for column in columns if f"| `{column}` |" not in cards] == []


# --- damage -------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", LOADERS)
@pytest.mark.parametrize(
    ("damage", "name", "found"),
    [(remove, "missing", "no file"), (truncate, "truncated", "1,000 bytes"), (alter, "altered", None)],
)
def test_a_damaged_file_is_named_with_what_was_expected_and_how_to_repair_it(
    copy: Path, file: str, damage: Callable[[Path], None], name: str, found: str | None
) -> None:
    expected = MANIFEST["files"][file]
    damage(copy / file)
    with pytest.raises(DatasetError) as caught:
        LOADERS[file]()
    message = str(caught.value)
    assert message.startswith(f"datasets/{file} is {name}: expected {expected['bytes']:,} bytes")
    assert expected["sha256"][:12] in message
    assert f"found {found or format(expected['bytes'], ',') + ' bytes'}" in message
    assert f"`git checkout -- datasets/{file}` or `python datasets/build.py`" in message


@given(place=st.integers(0, MANIFEST["files"][SMALL]["bytes"] - 1), flip=st.integers(1, 255))
def test_any_altered_byte_is_noticed(place: int, flip: int) -> None:
    content = bytearray((FOLDER / SMALL).read_bytes())
    content[place] ^= flip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: bytes(content))
        with pytest.raises(DatasetError, match="altered"):
            load_movielens_films()


@pytest.mark.parametrize("text", [None, "", "{", '{"files": {}}'])
def test_a_damaged_manifest_is_named(copy: Path, text: str | None) -> None:
    manifest = copy / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json does not describe .*`git checkout"):
        load_movielens_films()


def commit(folder: Path, file: str, frame: pd.DataFrame) -> None:
    """Put the frame in the place of the file, with a manifest that fits."""
    content = frame.to_parquet(index=False)
    (folder / file).write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": {file: entry}}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="year"), "the set of columns fails .* with year"),
        (lambda f: f.assign(stars=1), "the set of columns fails .* with stars"),
        (lambda f: f[f.columns[::-1]], "the set of columns fails .* column_ordered"),
        (lambda f: f.assign(movie_id=f["movie_id"].astype("int64")), "column movie_id fails .* with int64"),
        (lambda f: f.assign(movie_id=f["movie_id"].replace(2, 1)), "column movie_id fails .* with 1"),
        (lambda f: f.assign(year=f["year"].replace(1995, 5)), "column year fails .* with 5"),
    ],
)
def test_a_table_that_does_not_fit_its_schema_is_refused(
    copy: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    commit(copy, SMALL, spoil(load_movielens_films()))
    with pytest.raises(DatasetError, match=rf"{SMALL} does not fit its schema: {message}.*\. Repair it with"):
        load_movielens_films()


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [
        ("card_fraud.parquet", "amount", -0.01),
        ("card_fraud.parquet", "seconds", 172_801),
        ("card_fraud.parquet", "v7", 151),
        ("card_fraud.parquet", "v1", None),
        ("movielens_ratings.parquet", "rating", 4.25),
        ("movielens_ratings.parquet", "user_id", 0),
        ("movielens_ratings.parquet", "rated_at", pd.Timestamp("1994-12-31")),
        ("movielens_ratings.parquet", "rated_at", None),
        ("open_bandit.parquet", "propensity", 0),
        ("open_bandit.parquet", "propensity", 1.01),
        ("open_bandit.parquet", "position", 4),
        ("open_bandit.parquet", "item_id", 80),
        ("open_bandit.parquet", "timestamp", pd.Timestamp("2019-12-02")),
        ("open_bandit.parquet", "user_feature_3", None),
    ],
)
def test_a_single_value_out_of_range_is_refused(copy: Path, file: str, column: str, value: object) -> None:
    frame = LOADERS[file]().head(100)
    frame.loc[50, column] = value
    commit(copy, file, frame)
    with pytest.raises(DatasetError, match=f"{file} does not fit its schema: column {column} fails"):
        LOADERS[file]()


# --- rebuilding ---------------------------------------------------------------------------------------------


def recipe(folder: Path, **changes: object) -> SimpleNamespace:
    """A recipe for numbers.parquet and, in the folder, the little wheel that it is made from."""
    csv = b"n\n1\n2\n3\n"
    with zipfile.ZipFile(folder / "little.whl", "w") as wheel:
        wheel.writestr("little/numbers.csv", csv)
    pins = {
        "requirement": "little==1",
        "wheel": "little.whl",
        "sha256": hashlib.sha256((folder / "little.whl").read_bytes()).hexdigest(),
        "members": {"little/numbers.csv": hashlib.sha256(csv).hexdigest()},
    }
    return build.Recipe(
        file="numbers.parquet",
        source=build.Source(**pins | changes),
        make=lambda members: pd.read_csv(io.BytesIO(members["little/numbers.csv"])),
        schema=datasets.table(n=pa.Column("int64", pa.Check.in_range(1, 3))),
        figures=lambda frame: {"sum": int(frame["n"].sum())},
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A data folder with a card and an older file."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "numbers.parquet").write_bytes(b"older")
    (folder / "numbers.md").write_text(
        "# Numbers\n<!-- facts: numbers.parquet, written by build.py -->\n<!-- end of facts -->\nEnd.\n"
    )
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_build_writes_table_manifest_and_card_and_the_same_bytes_again(tmp_path: Path, out: Path) -> None:
    manifest = build.build([recipe(tmp_path)], tmp_path, out)
    first = contents(out)
    assert set(first) == {"numbers.parquet", "numbers.md", "manifest.json"}
    assert pd.read_parquet(out / "numbers.parquet")["n"].tolist() == [1, 2, 3]
    entry = json.loads(first["manifest.json"])["files"]["numbers.parquet"]
    assert entry == manifest["files"]["numbers.parquet"]
    assert entry["sha256"] == hashlib.sha256(first["numbers.parquet"]).hexdigest()
    assert b"| sum | 6 |\n" in first["numbers.md"] and first["numbers.md"].endswith(b"\nEnd.\n")
    build.build([recipe(tmp_path)], tmp_path, out)
    assert contents(out) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wheel": "other.whl"}, "other.whl is not in"),
        ({"sha256": "0" * 64}, "little.whl is not the pinned file: expected sha256 000"),
        ({"members": {"little/numbers.csv": "0" * 64}}, "numbers.csv is not the pinned file"),
        ({"members": {"little/letters.csv": "0" * 64}}, "little.whl has no member little/letters.csv"),
    ],
)
def test_a_source_that_is_not_the_pinned_one_changes_nothing(
    tmp_path: Path, out: Path, changes: dict[str, object], message: str
) -> None:
    before = contents(out)
    with pytest.raises(build.SourceError, match=message):
        build.build([recipe(tmp_path), recipe(tmp_path, **changes)], tmp_path, out)
    assert contents(out) == before


def test_a_table_that_does_not_fit_its_schema_is_not_written(tmp_path: Path, out: Path) -> None:
    before, good = contents(out), recipe(tmp_path)
    bad = good._replace(make=lambda members: good.make(members) + 1)
    with pytest.raises(
        DatasetError, match=r"numbers\.parquet does not fit its schema: column n fails .* with 4"
    ):
        build.build([good, bad], tmp_path, out)
    assert contents(out) == before


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_old_file_whole(
    tmp_path: Path, out: Path
) -> None:
    killed = f"""
import os, runpy
from pathlib import Path
replace = runpy.run_path({str(FOLDER / "build.py")!r})["replace"]
def half(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    os._exit(9)
Path.write_bytes = half
replace(Path({str(out / "numbers.parquet")!r}), b"newer")
"""
    assert subprocess.run([sys.executable, "-c", killed]).returncode == 9
    assert contents(out)["numbers.parquet"] == b"older"
    assert contents(out)["numbers.parquet.part"] == b"ne"
    build.build([recipe(tmp_path)], tmp_path, out)
    assert set(contents(out)) == {"numbers.parquet", "numbers.md", "manifest.json"}


def test_wheels_are_fetched_with_pip_by_hash_and_without_installing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        build.subprocess, "run", lambda command: calls.append(command) or SimpleNamespace(returncode=0)
    )
    source = recipe(tmp_path).source  # made once: its archive holds the time
    build.fetch_wheels([source], tmp_path)
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(command)
    pins = Path(command[command.index("-r") + 1]).read_text()
    assert pins == f"little==1 --hash=sha256:{source.sha256}\n"


def test_a_failing_pip_gets_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.subprocess, "run", lambda command: SimpleNamespace(returncode=1))
    with pytest.raises(build.SourceError, match=r"pip could not download .* --from FOLDER"):
        build.fetch_wheels([recipe(tmp_path).source], tmp_path)


def test_the_command_builds_from_a_folder_and_prints_a_table(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "RECIPES", [recipe(tmp_path)])
    monkeypatch.setattr(build, "HERE", out)
    monkeypatch.setattr(sys, "argv", ["build.py", "--from", str(tmp_path)])
    build.main()
    sha256 = hashlib.sha256((out / "numbers.parquet").read_bytes()).hexdigest()
    assert sha256 in capsys.readouterr().out
    (tmp_path / "little.whl").unlink()
    with pytest.raises(SystemExit, match=r"little\.whl is not in"):
        build.main()


class Malice:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self) -> tuple:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("harmful", [Malice(), eval, subprocess.run])
def test_the_unpickler_loads_nothing_but_parts_of_a_frame(harmful: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no part of a plain frame"):
        build.FrameUnpickler(io.BytesIO(pickle.dumps(harmful))).load()


@pytest.mark.parametrize(("module", "name"), sorted(build.FRAME_PARTS))
def test_the_installed_libraries_still_have_every_part_of_a_frame(module: str, name: str) -> None:
    part = build.FrameUnpickler(io.BytesIO()).find_class(module, name)
    assert part.__name__ == name


@pytest.mark.skipif(
    "DATASET_WHEELS" not in os.environ, reason="set DATASET_WHEELS to the folder of the source wheels"
)
def test_a_rebuild_from_the_real_wheels_gives_the_committed_files(copy: Path) -> None:
    before = contents(copy)
    build.build(build.RECIPES, Path(os.environ["DATASET_WHEELS"]), copy)
    assert contents(copy) == before
