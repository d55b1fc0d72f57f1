"""The optional downloads, against a small server on this machine that misbehaves on demand."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers import datasets, downloads
from helpers.datasets import DatasetError
from helpers.downloads import Archive, fetch, load_kuairand_pure, load_movielens_32m

CONTENT = bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """Serves one content; can ignore ranges, refuse, and cut the first answers after some bytes."""

    def __init__(self) -> None:
        """Listen on a free port of this machine."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.honors_ranges = True
        self.status: int | None = None
        self.cuts: list[int] = []
        self.ranges: list[str] = []

    @property
    def url(self) -> str:
        """The address of the content."""
        return f"http://127.0.0.1:{self.server_port}/archive"


class Handler(BaseHTTPRequestHandler):
    """Answers as its server is told to."""

    def do_GET(self) -> None:
        """Send the content from the start of the range, up to the next cut."""
        server = self.server
        server.ranges.append(self.headers["Range"])
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) * server.honors_ranges
        if server.status or start >= len(server.content):
            self.send_error(server.status or 416)
            return
        self.send_response(206 if server.honors_ranges else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else None
        self.wfile.write(server.content[start:end])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def archive(server: Server, content: bytes = CONTENT, name: str = "little.bin") -> Archive:
    """Describe the content at the server's address."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Archive(name, server.url, len(content), md5, "Free for all who ask.")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("consent", [False, "no", None])
def test_without_consent_the_license_and_the_size_are_shown_and_nothing_is_fetched(
    server: Server, tmp_path: Path, consent: object
) -> None:
    with pytest.raises(DatasetError, match=r"little.bin \(0 MB\): Free for all who ask\. .* consent=True"):
        fetch(archive(server), consent, tmp_path)
    assert server.ranges == [] and files(tmp_path) == {}


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (load_kuairand_pure, r"47 MB\): CC BY-SA 4\.0"),
        (load_movielens_32m, r"239 MB\): GroupLens .* no commercial"),
    ],
)
def test_the_loaders_ask_for_consent_first(load: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=words):
        load(folder=tmp_path)


def test_with_consent_the_archive_arrives_once_and_the_license_is_shown(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    path = fetch(archive(server), True, folder)
    assert files(folder) == {"little.bin": CONTENT} and path == folder / "little.bin"
    assert "Free for all who ask." in capsys.readouterr().out
    assert fetch(archive(server), True, folder) == path
    assert server.ranges == ["bytes=0-"]


def test_the_cache_folder_is_used_if_none_is_given(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "CACHE", tmp_path)
    assert fetch(archive(server), True) == tmp_path / "little.bin"


def test_after_a_cut_it_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [5_000, 2_000]
    fetch(archive(server), True, tmp_path)
    assert server.ranges == ["bytes=0-", "bytes=5000-", "bytes=7000-"]
    assert files(tmp_path) == {"little.bin": CONTENT}


def test_what_an_earlier_run_left_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "little.bin.part").write_bytes(CONTENT[:6_000])
    fetch(archive(server), True, tmp_path)
    assert server.ranges == ["bytes=6000-"]
    assert files(tmp_path) == {"little.bin": CONTENT}


def test_a_whole_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "little.bin.part").write_bytes(CONTENT)
    fetch(archive(server), True, tmp_path)
    assert server.ranges == [] and files(tmp_path) == {"little.bin": CONTENT}


@pytest.mark.parametrize("size", [100, len(CONTENT), len(CONTENT) + 1])
def test_a_corrupted_part_is_thrown_away_once(server: Server, tmp_path: Path, size: int) -> None:
    (tmp_path / "little.bin.part").write_bytes(b"x" * size)
    fetch(archive(server), True, tmp_path)
    assert server.ranges[-1] == "bytes=0-"
    assert files(tmp_path) == {"little.bin": CONTENT}


def test_a_damaged_archive_in_the_folder_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "little.bin").write_bytes(CONTENT[:-1] + b"x")
    fetch(archive(server), True, tmp_path)
    assert files(tmp_path) == {"little.bin": CONTENT}


def test_a_server_that_ignores_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.honors_ranges, server.cuts = False, [5_000]
    fetch(archive(server), True, tmp_path)
    assert server.ranges == ["bytes=0-", "bytes=5000-"]
    assert files(tmp_path) == {"little.bin": CONTENT}


@pytest.mark.parametrize("served", [CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_wrong_bytes_are_fetched_twice_and_not_kept(server: Server, tmp_path: Path, served: bytes) -> None:
    server.content = served
    expected, found = archive(server).md5, archive(server, served).md5
    with pytest.raises(
        DatasetError, match=f"twice with the wrong content: expected md5 {expected}, found {found}"
    ):
        fetch(archive(server), True, tmp_path)
    assert server.ranges == ["bytes=0-", "bytes=0-"] and files(tmp_path) == {}


def test_a_file_that_ends_too_early_is_an_error_and_is_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:4_000]
    with pytest.raises(
        DatasetError, match=r"HTTP Error 416.* 4,000 of 10,240 bytes are kept; call again to go on"
    ):
        fetch(archive(server), True, tmp_path)
    assert files(tmp_path) == {"little.bin.part": CONTENT[:4_000]}


def test_a_connection_that_brings_nothing_is_an_error(server: Server, tmp_path: Path) -> None:
    server.cuts = [3_000, 0]
    with pytest.raises(DatasetError, match=r"could not be downloaded: .* 3,000 of 10,240 bytes are kept"):
        fetch(archive(server), True, tmp_path)
    fetch(archive(server), True, tmp_path)
    assert server.ranges == ["bytes=0-", "bytes=3000-", "bytes=3000-"]
    assert files(tmp_path) == {"little.bin": CONTENT}


def test_a_refusal_is_one_clear_error_with_a_way_out(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(
        DatasetError, match=r"HTTP Error 404.* fetch http://127.* yourself and put it at .*little\.bin\."
    ):
        fetch(archive(server), True, tmp_path)
    assert server.ranges == ["bytes=0-"]


def test_no_connection_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    gone = archive(server)._replace(url="http://127.0.0.1:9/archive")
    with pytest.raises(DatasetError, match=r"could not be downloaded: URLError.* 0 of 10,240 bytes"):
        fetch(gone, True, tmp_path)


# --- what is read from the archives -------------------------------------------------------------------------

LOG = """\
user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,\
play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab
7,{video},20220421,400,{time},1,0,0,0,0,1,0,1500,10400,0,0,0,{rand},1
"""


def kuairand(server: Server, changed: str = "") -> Archive:
    """Serve an archive like KuaiRand-Pure with one row a log, and a member that wants to leave its folder."""
    rows = zip(downloads.KUAIRAND_LOGS, [3, 2, 1], [0, 0, 1], strict=True)
    logs = {name: LOG.format(video=v, time=1_650_485_801_301 + v, rand=rand) for name, v, rand in rows}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        for name, text in {"../evil.csv": "evil", **logs}.items():
            member = tarfile.TarInfo(name)
            content = (text.replace("1500", changed) if changed else text).encode()
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    server.content = packed.getvalue()
    return archive(server, server.content, "KuaiRand-Pure.tar.gz")


def test_kuairand_is_read_in_place_in_order_of_time(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    frame = load_kuairand_pure(True, folder, kuairand(server))
    assert [*downloads.KUAIRAND.columns] == [*frame.columns]
    assert frame["video_id"].tolist() == [1, 2, 3]
    assert frame["randomly_shown"].tolist() == [True, False, False]
    assert str(frame["timestamp"].iloc[0]) == "2022-04-20 20:16:41.302000"
    assert frame.loc[0, ["watch_seconds", "video_seconds"]].tolist() == [1.5, 10.4]
    assert frame.loc[0, ["clicked", "liked", "disliked", "long_viewed"]].tolist() == [
        True,
        False,
        True,
        False,
    ]
    assert [path.name for path in tmp_path.rglob("*.*")] == ["KuaiRand-Pure.tar.gz"]


def test_a_right_archive_with_an_unexpected_value_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"tar\.gz does not fit its schema: column watch_seconds .* with -1\.0"
    ):
        load_kuairand_pure(True, tmp_path, kuairand(server, changed="-1000"))


def test_movielens_32m_has_the_columns_and_order_of_the_small_set(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as members:
        members.writestr("../evil.csv", "evil")
        rows = ["1,17,4.0,944249077", "1,25,0.5,944249077", "2,17,5.0,835355493"]
        members.writestr("ml-32m/ratings.csv", "\n".join(["userId,movieId,rating,timestamp", *rows]))
        titles = [
            '17,"Heat, The (Hot) (1995)",Action|Crime',
            "25,Nameless,(no genres listed)",
            "3,7 (2006 ) ,War",
        ]
        members.writestr("ml-32m/movies.csv", "\n".join(["movieId,title,genres", *titles]))
    server.content = packed.getvalue()
    ratings, films = load_movielens_32m(True, tmp_path, archive(server, server.content, "ml-32m.zip"))
    assert ratings.dtypes.equals(datasets.load_movielens_ratings().dtypes)
    assert films.dtypes.equals(datasets.load_movielens_films().dtypes)
    assert ratings[["user_id", "movie_id"]].to_numpy().tolist() == [[2, 17], [1, 17], [1, 25]]
    assert str(ratings["rated_at"].iloc[0]) == "1996-06-21 11:11:33"
    assert films["movie_id"].tolist() == [3, 17, 25]
    assert films["title"].tolist() == ["7 (2006 )", "Heat, The (Hot)", "Nameless"]
    assert films["year"].fillna(0).tolist() == [0, 1995, 0]
    assert films["genres"].isna().tolist() == [False, False, True]
    assert [path.name for path in tmp_path.rglob("*.*")] == ["ml-32m.zip"]
