"""The helpers are typed and documented, the whole project is linted, and modules import only downwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HELPERS = ROOT / "helpers"
FLOORS = [
    {"datasets", "downloads", "files", "saved_state", "sections", "shifts", "world", "simulator", "catalog"},
    {"metrics", "uncertainty", "capacity", "figures"},
    {
        "architecture",
        "retrieval",
        "large_index",
        "two_stage",
        "towers",
        "designs",
        "features",
        "feature_store",
        "snapshots",
        "click_model",
        "privacy",
        "ranking",
        "position_bias",
        "reranking",
        "rankers",
        "recommenders",
        "saved_models",
    },
    {
        "releases",
        "request_log",
        "request_path",
        "app",
        "serving",
        "load",
        "release_gates",
        "experiments",
        "monitoring",
        "incidents",
    },
    {"search", "fraud", "feed"},
    {
        "exercises",
        "lessons",
        "machine",
        "interview",
        "case_systems",
        "outline",
        "drill_questions",
        "drill",
        "rubric",
        "answer_sheet",
        "mock_interview",
        "interview_panel",
        "outline_panel",
        "widgets",
    },
]
NEIGHBORS = {  # the imports on one floor, each for its reason
    "downloads": {"datasets"},  # the same tables, larger: the same schemas and errors
    "world": {"shifts"},  # a shift happens to it
    "simulator": {"datasets", "shifts", "world"},  # writes the log of the world
    "designs": {"architecture"},  # the systems of the notebooks as such objects
    "catalog": {"shifts", "simulator"},  # the same checks of sizes, the same random coins
    "feature_store": {"features"},  # keeps the declared features
    "click_model": {"rankers"},  # ranks with one of them
    "incidents": {"monitoring"},  # its dashboards are those of monitoring
    "snapshots": {"features"},  # computes the declared features at one moment
    "recommenders": {"ranking", "towers"},  # the rungs are made of their sources and towers
    "saved_models": {"recommenders", "towers"},  # makes them again from their arrays
    "reranking": {"position_bias"},  # both change only rankings that leave nothing to chance
    "request_path": {"releases"},  # a request runs through one
    "app": {"releases", "request_log", "request_path"},  # serves the one, by the other, into the third
    "serving": {"app", "releases", "request_log"},  # starts it, waits for a release, reads what it wrote
    "release_gates": {"releases", "request_path"},  # judge a release by what it would serve
    "lessons": {"exercises"},  # reads the verdicts that they show
    "exercises": {"interview"},  # judges the answers to its questions
    "drill_questions": {"exercises"},  # speaks the same verdicts
    "drill": {"drill_questions", "exercises"},  # asks the ones, in the words of the others
    "answer_sheet": {"case_systems", "interview"},  # is checked against the ledger of a system
    "interview_panel": {"mock_interview"},  # clicks for its public methods
    "mock_interview": {"answer_sheet", "case_systems", "interview", "rubric"},  # asks, checks, grades
    "case_systems": {"interview"},  # fills its ledger, in its questions and metrics
    "outline_panel": {"case_systems", "interview", "outline"},  # shows it, with menus of their names
    "outline": {"case_systems", "interview"},  # draws one that the reviewer lets pass
}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def ruff(*arguments, text=None):
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=" ".join)
def test_the_whole_project_is_linted(arguments):
    done = ruff(*arguments, ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_asks_for_docstrings_and_type_hints_in_the_helpers():
    found = ruff(
        "check",
        "--output-format=concise",
        "--stdin-filename=helpers/new.py",
        "-",
        text="def f(a):\n    return a\n",
    )
    assert all(code in found.stdout for code in ("D100", "D103", "ANN001", "ANN201"))


# ---------------------------------------------------------------- floors


def room_of(path):
    """The room that a file of the helpers belongs to: its module, or the package that it lies in."""
    return path.relative_to(HELPERS).with_suffix("").parts[0]


def imported_rooms(source):
    """The rooms that a source imports: `helpers.metrics`, or `metrics` out of `helpers`."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("helpers.")}
        elif isinstance(node, ast.ImportFrom) and node.level:
            rooms.add("a relative import")
        elif isinstance(node, ast.ImportFrom) and node.module == "helpers":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("helpers."):
            rooms.add(node.module.split(".")[1])
    return rooms


def not_below(room, source):
    """The rooms that a source imports although they are neither lower, nor its own, nor a known neighbor."""
    others = imported_rooms(source) - {room} - NEIGHBORS.get(room, set())
    return {other for other in others if FLOOR.get(other, len(FLOORS)) >= FLOOR[room]}


@pytest.mark.parametrize(
    "path", sorted(HELPERS.rglob("*.py")), ids=lambda path: str(path.relative_to(HELPERS))
)
def test_a_module_imports_only_from_lower_floors(path):
    if path == HELPERS / "__init__.py":
        assert imported_rooms(path.read_text(encoding="utf-8")) == set()
    else:
        assert not_below(room_of(path), path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("metrics", "from helpers.datasets import load_card_fraud", set()),
        ("exercises", "from helpers.exercises import Exercise\nimport helpers.figures", set()),
        ("downloads", "from helpers.datasets import conform", set()),
        ("datasets", "from helpers.downloads import fetch", {"downloads"}),
        ("metrics", "from helpers.figures import say", {"figures"}),
        ("metrics", "from helpers import widgets", {"widgets"}),
        ("datasets", "import helpers.metrics as m", {"metrics"}),
        ("datasets", "def f() -> None:\n    from . import metrics", {"a relative import"}),
    ],
)
def test_an_import_from_the_same_or_a_higher_floor_is_found(room, source, found):
    assert not_below(room, source) == found
