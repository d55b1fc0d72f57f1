"""A state file is replaced whole, and never overwritten when it cannot be read."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import saved_state
from helpers.saved_state import StateFile

CONTENT = {"asked": 3, "cards": {"1.6": {"box": 2}}}
DAMAGED = {
    "empty": (b"", "no JSON"),
    "cut short": (b'{"kind": "game", "vers', "no JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "no JSON"),
    "too deep": (b"[" * 200_000, "no JSON"),
    "a list": (b"[1, 2]", "layout"),
    "null": (b"null", "layout"),
    "another kind": (b'{"kind": "drill", "version": 1, "content": {}}', "holds the drill"),
    "no kind": (b'{"version": 1, "content": {}}', "lacks 'kind'"),
    "no content": (b'{"kind": "game", "version": 1}', "lacks 'content'"),
    "another version": (b'{"kind": "game", "version": 2, "content": {}}', "version is 2"),
}


@pytest.fixture
def file(tmp_path):
    return StateFile(tmp_path / "made" / "game.json", "game", 1)


def test_without_a_file_there_is_nothing_and_nothing_to_report(file):
    assert file.load(dict) == (None, "")


def test_what_was_saved_comes_back_and_replaces_what_was_there(file):
    file.save({"old": 1})
    file.save(CONTENT)
    assert file.load(dict) == (CONTENT, "")
    assert os.listdir(file.path.parent) == ["game.json"]


@given(
    content=st.dictionaries(
        st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_any_content_comes_back(tmp_path_factory, content):
    file = StateFile(tmp_path_factory.mktemp("state") / "game.json", "game", 1)
    file.save(content)
    assert file.load(dict) == (content, "")


@pytest.mark.parametrize(("raw", "words"), DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_used_is_kept_unchanged_under_another_name(tmp_path, raw, words):
    path = tmp_path / "game.json"
    path.write_bytes(raw)
    content, notice = StateFile(path, "game", 1).load(dict)
    assert content is None
    assert words in notice
    assert "game.aside-1.json" in notice
    assert not path.exists()
    assert (tmp_path / "game.aside-1.json").read_bytes() == raw


def test_a_second_damaged_file_does_not_replace_the_first(tmp_path):
    path = tmp_path / "game.json"
    for raw in ("one", "two"):
        path.write_text(raw)
        StateFile(path, "game", 1).load(dict)
    assert [(tmp_path / f"game.aside-{n}.json").read_text() for n in (1, 2)] == ["one", "two"]


def test_content_that_the_reader_refuses_is_put_aside_with_its_reason(file):
    def refuse(content):
        raise ValueError("box must be a whole number")

    file.save(CONTENT)
    assert "box must be a whole number" in file.load(refuse)[1]
    assert not file.path.exists()


@pytest.mark.parametrize("name", ["game.ipynb", "game", "json"])
def test_a_path_to_something_else_is_refused_before_it_is_touched(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=r"ends in \.json"):
        StateFile(tmp_path / name, "game", 1)
    assert (tmp_path / name).read_text() == "mine"


def test_what_json_cannot_hold_leaves_the_old_file(file):
    file.save(CONTENT)
    with pytest.raises(ValueError, match="JSON"):
        file.save({"score": float("nan")})
    assert file.load(dict) == (CONTENT, "")


def test_a_writer_that_dies_leaves_the_old_file(file, monkeypatch):
    file.save(CONTENT)

    def dies(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(saved_state.os, "replace", dies)
    with pytest.raises(OSError, match=r"Cannot save game game\.json.*Read-only file system.*may write to"):
        file.save({"asked": 4})
    assert json.loads(file.path.read_text())["content"] == CONTENT


def test_a_folder_that_cannot_be_made_is_named_with_the_repair(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"Cannot save game .*may write to"):
        StateFile(tmp_path / "taken" / "game.json", "game", 1).save({})


def test_a_damaged_file_that_cannot_be_renamed_stays(tmp_path, monkeypatch):
    path = tmp_path / "game.json"
    path.write_text("damaged")

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(saved_state.os, "rename", refused)
    with pytest.raises(OSError, match="Cannot put aside the unreadable game"):
        StateFile(path, "game", 1).load(dict)
    assert path.read_text() == "damaged"


def test_a_folder_in_place_of_the_file_is_an_error_with_the_repair(tmp_path):
    (tmp_path / "game.json").mkdir()
    with pytest.raises(OSError, match="Cannot read game"):
        StateFile(tmp_path / "game.json", "game", 1).load(dict)
