"""The style of the notebooks: one function a rule, which yields a sentence for each thing that breaks it."""

import ast
import builtins
import io
import re
import statistics
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from notebooks.build import FORMULA, LINK_TARGET, METADATA, code_cells, count_words, markdown

ROOT = Path(__file__).parents[1]
Rule = Callable[[NotebookNode], Iterator[str]]
RULES: list[Rule] = []

# A decimal or a percentage that somebody typed; it goes stale when the code changes.
TYPED = re.compile(r"(?<![\w.\-/])(?:\d+\.\d+|\d+(?:\.\d+)?\s?%)(?![\w.]*\d)")
NOT_TYPED = [
    re.compile(r"```.*?```|`[^`]*`", re.DOTALL),
    FORMULA,
    LINK_TARGET,
    re.compile(r"<[^>]+>|^#.*$|https?://\S+", re.MULTILINE),
    re.compile(
        r"\b(?:figure|fig\.?|v|chapter|section|table|python|version|exercise|module) ?\d[\d.]*|≥ ?\d[\d.]*",
        re.I,
    ),
]
# Words that name a kind of chart and state nothing.
CHART_WORD = re.compile(
    r"axes|axis|bars?|charts?|curves?|diagram|figure|graph|heatmap|histogram|image|lines?|panels?|picture|plots?"
    r"|scatter|showing|shows|three|versus|with"
)
# Addresses in memory, folders of one machine, and hosts of package indexes.
MACHINE = re.compile(
    re.escape(str(ROOT)) + r"|0x[0-9a-f]{6,}|ipykernel_\d|site-packages|[A-Z]:\\Users|py(?:pi|thonhosted)\."
    r"|conda\.(?:org|com)|(?<![\w.:/~-])/(?:home|mnt|opt|private|root|srv|tmp|Users|usr|var)/"
)


def rule(function: Rule) -> Rule:
    """Add a function to the rules."""
    RULES.append(function)
    return function


def violations(notebook: NotebookNode) -> list[str]:
    """Return a sentence for each thing that breaks a rule, with the name of the rule before it."""
    return [f"{check.__name__}: {sentence}" for check in RULES for sentence in check(notebook)]


# ---------------------------------------------------------------- measures


def code_lines(source: str) -> int:
    """Count the lines that hold more than a comment."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.split("\n"))


def percentile(values: list[int], share: float) -> int:
    """Return the value at the rank nearest to a share of the sorted values."""
    return sorted(values)[round(share * (len(values) - 1))]


def words_before_code(notebook: NotebookNode) -> list[int]:
    """Return, for each code cell, the words of prose since the code cell before it."""
    counts, words = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            words += count_words(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            counts.append(words)
            words = 0
    return counts


def typed_results(text: str) -> list[str]:
    """Return the decimals and percentages in prose; code, formulas, headings and addresses are not prose."""
    for pattern in NOT_TYPED:
        text = pattern.sub(" ", text)
    return TYPED.findall(text)


def trees(notebook: NotebookNode) -> Iterator[tuple[int, ast.Module | None]]:
    """Yield the number and the syntax tree of each code cell, None where it is not plain Python."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        yield number, syntax_tree(cell.source)


def syntax_tree(source: str) -> ast.Module | None:
    """Return the syntax tree of a cell, or None for one that is not plain Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def nodes(notebook: NotebookNode) -> Iterator[ast.AST]:
    """Yield every syntax node of the notebook."""
    for _, tree in trees(notebook):
        yield from ast.walk(tree) if tree else ()


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode, NotebookNode]]:
    """Yield the number of each code cell, the cell, and one of its outputs."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            yield number, cell, output


def text_of(output: NotebookNode) -> str:
    """Return everything in an output that can be read as text."""
    data = [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join([output.get("text", ""), *output.get("traceback", []), *data])


# ---------------------------------------------------------------- shape


@rule
def short_code_cells(notebook: NotebookNode) -> Iterator[str]:
    """A cell fits on a projected page: median at most 6 lines, nine in ten at most 12, all at most 20."""
    lines = [code_lines(cell.source) for cell in code_cells(notebook)]
    measured = {
        "median": statistics.median(lines),
        "90th percentile": percentile(lines, 0.9),
        "longest": max(lines),
    }
    for (name, value), most in zip(measured.items(), (6, 12, 20), strict=True):
        if value > most:
            yield f"the {name} of the lines in a code cell is {value}, more than {most}"


@rule
def enough_prose(notebook: NotebookNode) -> Iterator[str]:
    """Prose carries the code: 50 to 90 words for each code cell."""
    words = count_words(markdown(notebook)) / len(code_cells(notebook))
    if not 50 <= words <= 90:
        yield f"{words:.1f} words of prose for each code cell, not 50 to 90"


@rule
def few_bare_cells(notebook: NotebookNode) -> Iterator[str]:
    """At most 15 in 100 code cells follow another one without a word of prose."""
    share = statistics.mean(words == 0 for words in words_before_code(notebook))
    if share > 0.15:
        yield f"{share:.0%} of the code cells have no prose before them, more than 15%"


@rule
def early_code(notebook: NotebookNode) -> Iterator[str]:
    """The first code comes within 130 words."""
    words = words_before_code(notebook)[0]
    if words > 130:
        yield f"{words} words before the first code, more than 130"


@rule
def one_sitting(notebook: NotebookNode) -> Iterator[str]:
    """At most 70 code cells and 4,500 words."""
    cells, words = len(code_cells(notebook)), count_words(markdown(notebook))
    if cells > 70:
        yield f"{cells} code cells, more than 70"
    if words > 4500:
        yield f"{words} words, more than 4,500"


@rule
def short_path(notebook: NotebookNode) -> Iterator[str]:
    """Cells tagged path-45 mark the way through in 45 minutes."""
    if not any(on_path(cell) for cell in notebook.cells):
        yield "no cell is tagged path-45"


@rule
def path_runs_alone(notebook: NotebookNode) -> Iterator[str]:
    """Code on the 45-minute path uses only names that were made on the path."""
    made = set(dir(builtins))
    for number, cell in enumerate(code_cells(notebook), start=1):
        if on_path(cell) and (tree := syntax_tree(cell.source)):
            made |= names_made(tree)
            for name in sorted(names_used(tree) - made):
                yield f"code cell {number} is on the path and uses {name}, which the path does not make"


@rule
def path_is_marked(notebook: NotebookNode) -> Iterator[str]:
    """The headings of sections on the path carry the mark, and only they."""
    for cell in notebook.cells:
        for title in (
            re.findall(r"^## (\d.*)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else ()
        ):
            if ("◆" in title) != on_path(cell):
                yield f"the heading {title!r} is {'not ' if '◆' in title else ''}on the path"


def on_path(cell: NotebookNode) -> bool:
    """Tell whether a cell is on the 45-minute path."""
    return "path-45" in cell.metadata.get("tags", [])


def names_used(tree: ast.Module) -> set[str]:
    """Return the names that a piece of code reads."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def names_made(tree: ast.Module) -> set[str]:
    """Return the names that a piece of code assigns, imports, defines or catches, and its arguments."""
    made = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    named = ast.FunctionDef | ast.ClassDef | ast.ExceptHandler
    made |= {node.name for node in ast.walk(tree) if isinstance(node, named) and node.name}
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return made | {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}


@rule
def orderly_headings(notebook: NotebookNode) -> Iterator[str]:
    """One title at the top, then headings that never skip a level."""
    text = re.sub(r"```.*?```", "", markdown(notebook), flags=re.DOTALL)
    headings = [(len(marks), words) for marks, words in re.findall(r"^(#{1,6}) (.*)", text, re.MULTILINE)]
    if not notebook.cells[0].source.startswith("# ") or [level for level, _ in headings].count(1) != 1:
        yield "the first cell must begin with the title, the only heading of level 1"
    for (above, _), (level, words) in pairwise(headings):
        if level > above + 1:
            yield f"the heading {words!r} skips a level"


# ---------------------------------------------------------------- truth


@rule
def asserts_something(notebook: NotebookNode) -> Iterator[str]:
    """At least one claim of the prose is asserted in code."""
    if not any(isinstance(node, ast.Assert) for node in nodes(notebook)):
        yield "there is no assert"


@rule
def no_typed_results(notebook: NotebookNode) -> Iterator[str]:
    """Numbers in prose are computed, not typed."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := typed_results(cell.source)):
            yield f"typed results {', '.join(found)} in the cell that begins {cell.source[:40]!r}"


@rule
def figures_in_words(notebook: NotebookNode) -> Iterator[str]:
    """Every picture has alt text that states its finding."""
    for number, _, output in outputs(notebook):
        for kind in output.get("data", {}):
            alt = output.metadata.get(kind, {}).get("alt", "")
            if kind.startswith("image/") and not states_a_finding(alt):
                yield f"the alt text {alt!r} in code cell {number} states no finding"


def states_a_finding(alt: str) -> bool:
    """Tell whether an alt text has at least 30 characters, and 4 long words beyond the kind of chart."""
    words = re.findall(r"\w{4,}|\d+", alt.lower())
    return len(alt) >= 30 and sum(not CHART_WORD.fullmatch(word) for word in words) >= 4


@rule
def run_in_order(notebook: NotebookNode) -> Iterator[str]:
    """The stored outputs come from one run from top to bottom."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield "the cells were not run once each from top to bottom"


@rule
def saved_by_build(notebook: NotebookNode) -> Iterator[str]:
    """The notebook is saved by build.py, which keeps nothing of the machine in the metadata."""
    if notebook.metadata != METADATA:
        yield "the metadata is not what `python start.py notebooks` writes"


@rule
def no_failures(notebook: NotebookNode) -> Iterator[str]:
    """No output is an error, unless its cell promises it, and none was written to stderr."""
    for number, cell, output in outputs(notebook):
        if output.get("name") == "stderr":
            yield f"code cell {number} wrote to stderr"
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"code cell {number} raised {output.ename}"


@rule
def nothing_of_the_machine(notebook: NotebookNode) -> Iterator[str]:
    """Neither source nor outputs hold a folder, an address in memory or a package index of one machine."""
    texts = [cell.source for cell in notebook.cells] + [text_of(output) for _, _, output in outputs(notebook)]
    for found in sorted(set(MACHINE.findall("\n".join(texts)))):
        yield f"{found!r} belongs to one machine"


# ---------------------------------------------------------------- code


@rule
def plain_python(notebook: NotebookNode) -> Iterator[str]:
    """No magic and no shell command, which nbval does not test, and no semicolon, which it does not honor."""
    for number, tree in trees(notebook):
        if tree is None:
            yield f"code cell {number} is not plain Python"
        elif has_semicolon(code_cells(notebook)[number - 1].source):
            yield f"code cell {number} has a semicolon; end it with `_ = ...` to show nothing"


def has_semicolon(source: str) -> bool:
    """Tell whether Python source has a semicolon outside of strings and comments."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return any(token.type == tokenize.OP and token.string == ";" for token in tokens)


@rule
def known_imports(notebook: NotebookNode) -> Iterator[str]:
    """A notebook imports what pyproject.toml asks for, the standard library, and the helpers."""
    for name in sorted(imported(notebook) - sys.stdlib_module_names - {"helpers"} - direct_dependencies()):
        yield f"{name} is not among the dependencies in pyproject.toml"


def imported(notebook: NotebookNode) -> set[str]:
    """Return the names of the packages that a notebook imports."""
    names = set()
    for node in nodes(notebook):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@cache
def direct_dependencies() -> set[str]:
    """Return what can be imported from the packages that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    return {name for name, by in packages_distributions().items() if asked & set(map(canonicalize_name, by))}


@rule
def explained_functions(notebook: NotebookNode) -> Iterator[str]:
    """A function that a notebook defines has a docstring and type hints, a class has a docstring."""
    for node in nodes(notebook):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not ast.get_docstring(
            node
        ):
            yield f"{node.name} has no docstring"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not is_hinted(node):
            yield f"{node.name} lacks type hints"


def is_hinted(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether every argument but self, and the result, has a type hint."""
    spec = function.args
    arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
    return function.returns is not None and all(a.annotation or a.arg in ("self", "cls") for a in arguments)
