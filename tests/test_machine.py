"""Each check passes on this machine, and fails, with its repair, where the thing is broken."""

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement

from helpers import datasets, machine


def test_this_machine_passes():
    failed = [str(check) for check in machine.environment() if not check.passed]
    assert failed == []


def test_every_table_has_its_check():
    loaders = {name for name in vars(datasets) if name.startswith("load_")}
    assert {loader.__name__ for loader in machine.LOADERS} == loaders


@pytest.mark.parametrize(
    ("passed", "line"), [(True, "[ OK ] disk: 9 GB"), (False, "[FAIL] disk: 9 GB -> Free some.")]
)
def test_a_check_is_one_line_that_needs_no_color(passed, line):
    assert str(machine.Check("disk", passed, "9 GB", "Free some.")) == line


def failed(name):
    (check,) = [check for check in machine.environment() if check.name == name]
    assert not check.passed
    assert check.repair
    return str(check)


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(machine.sys, "version_info", (3, 10, 2))
    assert "Install Python 3.11 or newer" in failed("Python")


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch):
    versions = importlib.metadata.version

    def version(name):
        if name == "duckdb":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "pandas" else versions(name)

    monkeypatch.setattr(machine.importlib.metadata, "version", version)
    line = failed("packages")
    assert "duckdb is not installed" in line
    assert re.search(r"pandas is 1\.0, not >=", line)
    assert machine.SET_UP in line


def test_a_version_in_bounds_is_no_problem():
    assert machine.missing(Requirement("pytest>=1")) == ""


def test_a_damaged_table_is_named_with_its_repair(monkeypatch, tmp_path):
    for file in datasets.FOLDER.iterdir():
        if file.is_file():
            content = file.read_bytes()
            (tmp_path / file.name).write_bytes(
                content[:-1] if file.name == "open_bandit.parquet" else content
            )
    monkeypatch.setattr(datasets, "FOLDER", tmp_path)
    assert "open_bandit.parquet" in failed("data open_bandit")


def test_a_full_disk_and_a_small_memory_are_named(monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e8}))
    monkeypatch.setattr(machine, "memory_gb", lambda: 2.0)
    assert "Free 1 GB" in failed("disk")
    assert "2 GB" in failed("memory")


def test_an_unknown_memory_is_no_failure(monkeypatch):
    monkeypatch.setattr(machine, "memory_gb", lambda: None)
    (check,) = [check for check in machine.environment() if check.name == "memory"]
    assert check.passed


def test_no_port_and_no_temporary_file_are_named(monkeypatch):
    def refuse(*_, **__):
        raise OSError("not permitted")

    monkeypatch.setattr(machine.socket, "socket", refuse)
    monkeypatch.setattr(machine, "TemporaryFile", refuse)
    assert "not permitted" in failed("a port for the service")
    assert "not permitted" in failed("temporary files")
