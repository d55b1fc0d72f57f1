"""A published file is the old one or the new one, whole, wherever the writer dies; or it is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.files import Shelf

ROOT = Path(__file__).parents[1]


class NoteError(RuntimeError):
    """What the shelf of these tests raises."""


SHELF = Shelf("note", format=1, error=NoteError)


def publish(directory, text, shelf=SHELF, **facts):
    shelf.publish(directory, lambda file: file.write(text.encode()), facts)


def read(directory, check=lambda manifest: None):
    with SHELF.open(directory, check) as (file, manifest):
        return file.read().decode(), manifest


def note_file(directory):
    return next(directory.glob("note-*"))


def test_what_was_published_is_read_with_its_facts(tmp_path):
    publish(tmp_path / "a" / "b", "hello", color="red", sizes=[1, 2])
    text, manifest = read(tmp_path / "a" / "b")
    assert text == "hello"
    assert manifest["format"] == 1 and manifest["color"] == "red" and manifest["sizes"] == [1, 2]
    assert SHELF.manifest(tmp_path / "a" / "b") == manifest
    assert note_file(tmp_path / "a" / "b").name == f"note-{manifest['sha256']}"


@settings(max_examples=15)
@given(first=st.text(), second=st.text())
def test_the_last_one_published_is_alone(tmp_path_factory, first, second):
    directory = tmp_path_factory.mktemp("notes")
    publish(directory, first, version=1)
    (directory / "note-part").write_bytes(b"of a killed writer")
    publish(directory, second, version=2)
    text, manifest = read(directory)
    assert text == second and manifest["version"] == 2
    assert len([*directory.iterdir()]) == 2


def test_other_files_of_the_directory_are_left_alone(tmp_path):
    (tmp_path / "README").touch()
    publish(tmp_path, "hello")
    publish(tmp_path, "again")
    assert (tmp_path / "README").exists()


def test_a_refusal_of_the_manifest_comes_before_the_file_is_read(tmp_path):
    publish(tmp_path, "hello", color="red")
    note_file(tmp_path).write_text("damaged")

    def refuse(manifest):
        raise NoteError(f"not {manifest['color']}")

    with pytest.raises(NoteError, match="not red"):
        read(tmp_path, refuse)


def test_damage_and_absence_are_refused(tmp_path):
    with pytest.raises(NoteError, match="holds no saved note: save one, or check the path"):
        read(tmp_path)
    publish(tmp_path, "hello")
    for damaged in (b"hell", b"", b"hellp", b"hello "):
        note_file(tmp_path).write_bytes(damaged)
        with pytest.raises(NoteError, match="damaged or cut short: save the note again"):
            read(tmp_path)
    note_file(tmp_path).unlink()
    with pytest.raises(NoteError, match=r"note file in .* is missing: save the note again"):
        read(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text[:-3],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: json.dumps(json.loads(text) | {"color": "blue"}),
        lambda text: json.dumps(json.loads(text) | {"seal": None}),
    ],
)
def test_a_changed_manifest_is_refused(edit, tmp_path):
    publish(tmp_path, "hello", color="red")
    path = tmp_path / "manifest.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(NoteError, match=r"manifest.json in .* is damaged: save the note again"):
        read(tmp_path)


def test_another_format_is_refused(tmp_path):
    publish(tmp_path, "hello", Shelf("note", format=2, error=NoteError))
    with pytest.raises(NoteError, match="has format 2, and this program reads 1: save the note again"):
        read(tmp_path)


def test_facts_that_json_cannot_hold_leave_the_old_file(tmp_path):
    publish(tmp_path, "old")
    with pytest.raises(TypeError):
        publish(tmp_path, "new", color={1, 2})
    assert read(tmp_path)[0] == "old"


def test_a_file_that_is_replaced_between_manifest_and_opening_is_read_anew(tmp_path):
    publish(tmp_path, "old")
    replaced = []

    def replace_once(manifest):
        if not replaced:
            replaced.append(manifest)
            publish(tmp_path, "new")

    assert read(tmp_path, replace_once)[0] == "new"


def test_an_open_file_is_read_to_its_end_although_it_is_replaced(tmp_path):
    publish(tmp_path, "old")
    with SHELF.open(tmp_path, lambda manifest: None) as (file, _):
        publish(tmp_path, "new")
        assert file.read() == b"old"


WRITER = """
import os, sys, time
from pathlib import Path
from helpers.files import Shelf

steps, replace = iter(range(1, 5)), os.replace

def step():
    if next(steps) == int(sys.argv[2]):
        print("stopped", flush=True)
        time.sleep(600)

def replace_in_steps(*arguments):
    step()
    replace(*arguments)
    step()

os.replace = replace_in_steps
Shelf("note", 1, RuntimeError).publish(Path(sys.argv[1]), lambda file: file.write(b"new"), {})
"""
WRITTEN, NAMED, MANIFEST_WRITTEN, PUBLISHED = 1, 2, 3, 4


@pytest.mark.parametrize("step", [WRITTEN, NAMED, MANIFEST_WRITTEN, PUBLISHED])
def test_killing_the_writer_leaves_the_old_file_or_the_new_one_whole(step, tmp_path):
    publish(tmp_path, "old")
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(step)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline().strip() == b"stopped"
        writer.kill()
    assert len([*tmp_path.iterdir()]) > 2
    assert read(tmp_path)[0] == ("new" if step == PUBLISHED else "old")
    publish(tmp_path, "later")
    assert len([*tmp_path.iterdir()]) == 2
