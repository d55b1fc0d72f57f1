"""The set-up: three lists of dependencies that agree, and a start.py that repeats what was interrupted."""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LISTS = ["pyproject.toml", "requirements.txt", "environment.yml"]
PYTHONS = ["3.11", "3.12", "3.13"]
SYSTEMS = {
    "Linux": {"sys_platform": "linux", "os_name": "posix"},
    "Darwin": {"sys_platform": "darwin", "os_name": "posix"},
    "Windows": {"sys_platform": "win32", "os_name": "nt"},
}
posix_only = pytest.mark.skipif(os.name == "nt", reason="uses signals that Windows does not have")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- the three lists

PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
ASKED = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS]]
PINS = [Requirement(line) for line in read("requirements.txt").splitlines() if not line.startswith("#")]
ENVIRONMENTS = [
    default_environment()
    | {
        "python_version": python,
        "python_full_version": f"{python}.{patch}",
        "platform_system": name,
        **system,
    }
    for python in PYTHONS
    for patch in (0, 9)
    for name, system in SYSTEMS.items()
]


def pinned(environment):
    """The pinned version of each package that an environment gets."""
    applying = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in applying}


@pytest.mark.parametrize(
    "environment", ENVIRONMENTS, ids=lambda e: f"{e['platform_system']}-{e['python_full_version']}"
)
def test_what_pyproject_asks_for_is_pinned_within_its_bounds(environment):
    versions = pinned(environment)
    for asked in ASKED:
        assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), asked


def test_every_pin_is_one_exact_version():
    assert [str(pin) for pin in PINS if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []


def test_every_python_gets_the_same_versions_so_that_the_numbers_are_the_same():
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert sorted(set(names)) == sorted(names)


def test_everything_that_is_installed_for_the_project_is_pinned():
    waiting, seen = [(asked.name, asked.extras) for asked in ASKED], set()
    while waiting:
        name, extras = waiting.pop()
        if canonicalize_name(name) in seen:
            continue
        seen.add(canonicalize_name(name))
        try:
            needed = map(Requirement, distribution(name).requires or [])
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        environments = [{"extra": extra} for extra in extras or [""]]
        waiting += [
            (need.name, need.extras)
            for need in needed
            if need.marker is None or any(map(need.marker.evaluate, environments))
        ]
    assert seen - set(pinned(default_environment())) == set()


def test_every_dependency_has_a_lower_bound_and_a_reason_beside_it():
    assert [str(asked) for asked in ASKED if ">=" not in str(asked.specifier)] == []
    names = "|".join(asked.name for asked in ASKED)
    lines = re.findall(rf"^.*\b(?:{names})(?:\[[\w,]+\])?>=.*$", read("pyproject.toml"), re.MULTILINE)
    assert len(lines) == len(ASKED)
    assert [line for line in lines if not re.search(r" # \w.{4,}", line)] == []


def test_conda_installs_from_the_same_two_files():
    *conda, pip = yaml.safe_load(read("environment.yml"))["dependencies"]
    (python,) = [line.removeprefix("python") for line in conda if line.startswith("python")]
    assert "pip" in conda
    assert pip == {"pip": ["-c requirements.txt", "-e ."]}
    assert PROJECT["requires-python"] in python.split(",")
    assert [v for v in ("3.10", *PYTHONS, "3.14") if SpecifierSet(python).contains(v)] == PYTHONS


def test_every_line_of_the_conda_file_has_its_reason():
    lines = read("environment.yml").partition("dependencies:\n")[2].splitlines()
    assert [line for line in lines if "pip:" not in line and not re.search(r" # \w.{10,}", line)] == []


@pytest.mark.parametrize("name", LISTS)
def test_no_list_names_an_address(name):
    assert "://" not in read(name)
    assert "index-url" not in read(name)


def test_the_first_lines_of_the_pins_say_how_they_were_compiled():
    comment = "".join(line for line in read("requirements.txt").splitlines() if line.startswith("#"))
    assert "uv pip compile --universal --all-extras --fork-strategy fewest --no-annotate" in comment
    assert "pyproject.toml -o requirements.txt" in comment


# ---------------------------------------------------------------- an old Python


def young_syntax(source):
    """What Python 2.7 could not parse in a source, as far as this file is tempted to use it."""
    found = set() if source.isascii() else {"not ASCII"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node, (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Nonlocal, ast.YieldFrom, ast.Match)
        ):
            found.add(type(node).__name__)
        if isinstance(node, (ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor, ast.Await, ast.TryStar)):
            found.add("async or except*")
        if isinstance(node, ast.arguments) and (node.kwonlyargs or node.posonlyargs):
            found.add("keyword-only or positional-only arguments")
        if getattr(node, "annotation", None) or getattr(node, "returns", None):
            found.add("annotation")
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)) and any(
            isinstance(e, ast.Starred) for e in node.elts
        ):
            found.add("unpacking in a display")
        if isinstance(node, ast.Dict) and None in node.keys:
            found.add("unpacking in a display")
        if isinstance(node, ast.Raise) and node.cause:
            found.add("raise from")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and len(node.args) != 1:
            found.add("print with more than one argument")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and node.keywords:
            found.add("print with keywords")
        if isinstance(node, ast.Call) and re.search(r"\*\w+,\s*\)$", ast.get_source_segment(source, node)):
            found.add("comma after unpacked arguments")
    return found


def test_an_old_python_can_parse_start():
    assert young_syntax(read("start.py")) == set()


@pytest.mark.parametrize(
    "source",
    [
        "f'{1}'",
        "a: int = 1",
        "def f(a: int): pass",
        "def f() -> int: pass",
        "def f(*, a): pass",
        "def f(a, /): pass",
        "[*a, 1]",
        "{**a}",
        "(a := 1)",
        "async def f(): pass",
        "print(1, 2)",
        "print(1, end='')",
        "f(a,\n  **b,\n)",
        "raise A from b",
        "'é'",
    ],
)
def test_syntax_that_an_old_python_cannot_parse_is_found(source):
    assert young_syntax(source)


def test_a_real_old_python_says_so_in_one_sentence():
    for name in ("python2.7", "python3.6", "python3.8", "python3.10"):
        if (
            shutil.which(name)
            and subprocess.run([name, "-c", "pass"], capture_output=True, check=False).returncode == 0
        ):
            break
    else:
        pytest.skip("no old Python is installed here; the test of the syntax stands in for it")
    done = subprocess.run([name, ROOT / "start.py", "test"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"This project needs Python 3.11 or newer; you are running {name[6:]}. ")


# ---------------------------------------------------------------- set-up

DRIVER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("start", sys.argv[1])
start = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start)
follow = start.follow
def fake(command):
    if "venv" in command:
        return follow(command + ["--without-pip"])
    return follow([sys.executable, "-c", sys.argv[2]]) if "pip" in command else (0, [])
start.follow = fake
sys.exit(start.main(["setup"]))
"""
QUICK_PIP = "open('pip-runs', 'a').write('quick ')"
SLOW_PIP = """
import os, time
open('pip-runs', 'a').write('slow ')
open(os.path.join('.venv', 'half-made'), 'w').close()
while not os.path.exists('go'):
    time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of what start.py needs, in a folder with a space in its name."""
    folder = tmp_path / "a project"
    for room in ("notebooks", "tests", "benchmarks", "classroom"):
        (folder / room).mkdir(parents=True)
    for name in ("start.py", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def load(folder):
    """start.py of a folder as a module."""
    spec = importlib.util.spec_from_file_location("start", folder / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(folder):
    """start.py with an installer that only counts; `installed` holds the project that each run installed."""
    module = load(folder)
    module.follow, follow = lambda command: fake(command), module.follow
    module.installed = []

    def fake(command):
        if "venv" in command:
            return follow([*command, "--without-pip"])
        if "pip" in command:
            module.installed.append(command[-1])
        return 0, []

    return module


def test_the_second_start_finds_everything_made(start, capsys):
    assert start.main(["setup"]) == 0
    assert "Set up in " in capsys.readouterr().out
    assert start.main(["setup"]) == 0
    assert capsys.readouterr().out == ""
    assert start.installed == ["."]


def test_jupyterlab_is_told_to_fetch_no_news(start):
    start.main(["setup"])
    settings = Path(start.VENV, "share/jupyter/lab/settings/overrides.json").read_text(encoding="utf-8")
    wanted = {"fetchNews": "false", "checkForUpdates": False}
    assert json.loads(settings) == {"@jupyterlab/apputils-extension:notification": wanted}


def test_an_extra_is_installed_once_and_kept(start):
    for arguments in (["setup"], ["setup", "--with", "browser"], ["setup", "--with", "browser"], ["setup"]):
        assert start.main(arguments) == 0
    assert start.installed == [".", ".[browser]"]


def test_another_extra_does_not_remove_the_first(start):
    for name in ("browser", "distributed"):
        assert start.main(["setup", "--with", name]) == 0
    assert start.installed == [".[browser]", ".[browser,distributed]"]


def test_an_extra_that_does_not_exist_is_refused(start, capsys):
    with pytest.raises(SystemExit):
        start.main(["setup", "--with", "gold"])
    assert "invalid choice: 'gold'" in capsys.readouterr().err


def change_a_list(start):
    with open(Path(start.ROOT, "requirements.txt"), "a") as file:
        file.write("# changed\n")


def lose_the_stamp(start):
    os.remove(start.STAMP)


def break_the_stamp(start):
    Path(start.STAMP).write_text('{"made_from')


def lose_python(start):
    os.remove(start.PYTHON)


def move_the_base_python(start):
    os.remove(start.PYTHON)
    os.symlink(Path(start.ROOT, "gone"), start.PYTHON)


def break_python(start):
    os.remove(start.PYTHON)
    Path(start.PYTHON).write_text("#!/bin/sh\nexit 103\n")
    os.chmod(start.PYTHON, 0o755)


def change_python(start):
    real = start.sys
    start.sys = SimpleNamespace(version_info=(3, 99, 0), executable=real.executable, stdout=real.stdout)


@pytest.mark.parametrize(
    "change",
    [
        change_a_list,
        lose_the_stamp,
        break_the_stamp,
        lose_python,
        pytest.param(move_the_base_python, marks=posix_only),
        pytest.param(break_python, marks=posix_only),
        change_python,
    ],
)
def test_what_is_not_complete_and_current_is_made_again_from_a_clean_folder(start, change):
    start.set_up([])
    Path(start.VENV, "leftover").touch()
    change(start)
    start.set_up([])
    assert start.installed == [".", "."]
    assert not Path(start.VENV, "leftover").exists()
    assert start.is_set_up([])


def test_a_project_that_was_moved_is_set_up_again(start, folder):
    start.set_up([])
    moved = folder.rename(folder.with_name("moved"))
    assert not load(moved).is_set_up([])


def test_a_failed_pip_gives_a_reason_and_a_repair_and_is_repeated(start, capsys):
    follow, words = (
        start.follow,
        ["Collecting numpy", "ERROR: No matching distribution found for numpy", "hint"],
    )
    start.follow = lambda command: (1, words) if "pip" in command else follow(command)
    assert start.main(["test"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(
        "The packages could not be installed (ERROR: No matching distribution found for numpy)."
    )
    assert "Check the network" in printed
    assert printed.count("\n") == 1
    assert not start.is_set_up([])
    start.follow = follow
    assert start.main(["setup"]) == 0


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["WARNING: Retrying after connection broken by x", "ERROR: conflict"],
            "the package index cannot be reached",
        ),
        (["ERROR: first", "ERROR: second"], "ERROR: first"),
        (["Killed"], "Killed"),
        ([], ""),
    ],
)
def test_the_reason_of_a_failure_is_the_one_that_helps(start, lines, reason):
    assert start.reason(lines) == reason


def test_a_python_without_venv_names_the_package_to_install(start, capsys):
    start.follow = lambda command: (1, ["ensurepip is not available"])
    assert start.main(["setup"]) == 1
    assert (
        f"sudo apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in capsys.readouterr().err
    )


def test_an_interrupt_says_how_to_go_on_and_nothing_passes_for_complete(start, capsys):
    def interrupt(command):
        raise KeyboardInterrupt

    start.set_up([])
    start.follow = interrupt
    assert start.main(["setup", "--with", "browser"]) == 130
    assert "Repeat your command" in capsys.readouterr().err
    assert not start.is_set_up([])


def test_a_folder_that_cannot_be_written_gives_a_sentence(start, capsys):
    Path(start.ROOT, ".venv.lock").mkdir()
    assert start.main(["setup"]) == 1
    assert capsys.readouterr().err.startswith("The set-up failed (")


# ---------------------------------------------------------------- two at once, and kills


@contextmanager
def begin(folder, pip):
    """Start a set-up in a process of its own; in the end nothing of it runs on."""
    command = [sys.executable, "-c", DRIVER, folder / "start.py", pip]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            (folder / "go").touch()


def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_of_two_set_ups_at_once_the_second_waits_and_makes_nothing(folder):
    with begin(folder, SLOW_PIP) as first:
        wait_for(folder / ".venv" / "half-made")
        with begin(folder, QUICK_PIP) as second:
            assert second.stdout.readline() == "Another set-up is running here; waiting for it.\n"
            (folder / "go").touch()
            assert first.wait(60) == second.wait(60) == 0
            assert second.stdout.read() == ""
    assert (folder / "pip-runs").read_text() == "slow "


@posix_only
def test_a_killed_set_up_is_repeated_from_a_clean_folder_once_its_pip_has_ended(folder):
    with begin(folder, SLOW_PIP) as first:
        wait_for(folder / ".venv" / "half-made")
        first.kill()
        with begin(folder, QUICK_PIP) as second:
            assert second.stdout.readline() == "Another set-up is running here; waiting for it.\n"
            (folder / "go").touch()
            assert second.wait(60) == 0
    assert not (folder / ".venv" / "half-made").exists()
    assert (folder / "pip-runs").read_text() == "slow quick "
    assert load(folder).is_set_up([])


# ---------------------------------------------------------------- commands


@pytest.fixture
def calls(start, monkeypatch):
    """What the commands run, instead of running it."""
    calls = []
    monkeypatch.setattr(start, "set_up", lambda extras: None)
    monkeypatch.setattr(start, "run", lambda command, **variables: calls.append((command, variables)) or 0)
    return calls


@pytest.mark.parametrize("arguments", [[], ["lab", "--no-browser"]])
def test_lab_opens_the_first_notebook_on_this_machine_only(start, folder, calls, arguments):
    for name in ("02_b.ipynb", "01_a.ipynb", "notes.ipynb"):
        (folder / "notebooks" / name).touch()
    assert start.main(arguments) == 0
    ((command, _),) = calls
    assert command[:3] == [start.PYTHON, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/notebooks/01_a.ipynb" in command
    assert f"--ServerApp.root_dir={start.ROOT}" in command
    assert "--ip=127.0.0.1" in command
    assert ("--no-browser" in command) == bool(arguments)


def test_test_passes_its_arguments_on_to_pytest(start, calls):
    assert start.main(["test", "--with", "browser", "-k", "metrics and fast", "-x"]) == 0
    pytest_command = [start.PYTHON, "-m", "pytest", "-k", "metrics and fast", "-x"]
    assert calls == [(pytest_command, {"PYTHONHASHSEED": "0"})]


def test_notebooks_calls_the_builder(start, calls):
    assert start.main(["notebooks", "01"]) == 0
    assert calls == [([start.PYTHON, os.path.join("notebooks", "build.py"), "01"], {})]


def test_bench_runs_every_script_or_those_named(start, folder, calls, capsys):
    (folder / "benchmarks").mkdir(exist_ok=True)
    for name in ("b.py", "a.py"):
        (folder / "benchmarks" / name).touch()
    assert start.main(["bench"]) == start.main(["bench", "b"]) == 0
    assert [Path(command[-1]).name for command, _ in calls] == ["a.py", "b.py", "b.py"]
    assert start.main(["bench", "c"]) == 2
    assert capsys.readouterr().err == "No benchmark c. There are: a, b.\n"


def test_options_go_to_the_benchmark(start, folder, calls):
    (folder / "benchmarks").mkdir(exist_ok=True)
    (folder / "benchmarks" / "a.py").touch()
    assert start.main(["bench", "a", "--sizes", "1e8"]) == 0
    assert calls[-1][0][2:] == ["--sizes", "1e8"]


def test_serve_starts_the_application(start, calls):
    assert start.main(["serve", "somewhere", "--port", "8001"]) == 0
    assert calls == [([start.PYTHON, "-m", "helpers.app", "somewhere", "--port", "8001"], {})]


@pytest.mark.parametrize("arguments", [["site"], ["slides", "02", "--path", "90"], ["class", "autumn"]])
def test_what_a_teacher_makes_brings_its_extra(start, calls, monkeypatch, arguments):
    extras = []
    monkeypatch.setattr(start, "set_up", extras.extend)
    assert start.main([*arguments, "--with", "browser"]) == 0
    assert extras == ["browser", "classroom"]
    assert calls == [([start.PYTHON, "-m", "classroom", *arguments], {})]


def test_the_other_commands_need_no_extra(start):
    assert set(start.NEEDS) == {"site", "slides", "class"}
    assert set(start.NEEDS["site"]) <= set(start.known_extras())


# A shell that starts a job in the background has it ignore Ctrl-C, and every child inherits that; a terminal
# does not.
RUN = """
import importlib.util, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
spec = importlib.util.spec_from_file_location("start", sys.argv[1])
start = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start)
sys.exit(start.run([sys.executable, "-c", sys.argv[2]], EXTRA="1"))
"""


def test_run_sets_the_environment_and_returns_the_exit_code(folder):
    child = (
        "import os, sys; sys.exit(os.environ['OMP_WAIT_POLICY'] + os.environ['EXTRA'] == 'PASSIVE1' and 7)"
    )
    done = subprocess.run([sys.executable, "-c", RUN, folder / "start.py", child], check=False)
    assert done.returncode == 7


CALM_CHILD = """
import sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    sys.exit(5)
"""


@posix_only
def test_ctrl_c_lets_the_command_end_by_itself(folder):
    command = [sys.executable, "-c", RUN, folder / "start.py", CALM_CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 5


def test_the_oldest_python_is_the_one_of_pyproject(start, capsys):
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, start.OLDEST))
    assert start.main(["test"], version=(3, 8, 18)) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("This project needs Python 3.11 or newer; you are running 3.8. ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "room"), [("site", "classroom"), ("test", "tests"), ("bench", "benchmarks")]
)
def test_a_copy_for_learners_says_at_once_what_it_lacks(folder, capsys, command, room):
    start = load(folder)
    (folder / room).rmdir()
    assert start.main([command]) == 1
    assert f"copy for learners, without {room}" in capsys.readouterr().err
    assert not (folder / ".venv").exists()


def test_help_before_a_command_is_of_start_and_after_it_of_the_command(folder, capsys):
    start = load(folder)
    with pytest.raises(SystemExit):
        start.parse(["--help"])
    assert "Set this project up" in capsys.readouterr().out
    options, rest = start.parse(["slides", "--help"])
    assert (options.command, rest) == ("slides", ["--help"])


def test_the_help_of_all_benchmarks_is_their_names(folder, capsys):
    start = load(folder)
    (folder / "benchmarks" / "two_stage.py").touch()
    assert start.bench(["--help"]) == 0
    assert "names: two_stage" in capsys.readouterr().out
