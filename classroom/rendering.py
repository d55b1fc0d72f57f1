"""One way to turn notebooks into pages: Sphinx with myst-nb, offline, warnings as errors.

Also the small extension of Sphinx that it needs: formulas as MathML, which browsers draw by themselves, and
code on slides colored while building.
"""

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import nbformat
from docutils.nodes import SkipNode, math, math_block
from docutils.utils.math.latex2mathml import tex2mathml
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util.console import strip_escape_sequences
from sphinx.util.docutils import docutils_namespace
from sphinx.writers.html5 import HTML5Translator
from sphinx_revealjs.writers import RevealjsSlideTranslator

from classroom.sections import ClassroomError

STATIC = Path(__file__).parent / "static"
PROJECT = "Machine-learning system design, executed"
KINDS = ("text/html", "image/png", "text/markdown", "text/plain")  # of an output, the best first
COMMON = {
    "project": PROJECT,
    "extensions": ["myst_nb", "classroom.rendering"],
    "html_math_renderer": "mathml",
    "html_static_path": [str(STATIC)],
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "myst_enable_extensions": ["dollarmath"],
    "nb_execution_mode": "off",  # the outputs are committed
    "nb_render_markdown_format": "myst",
    "nb_mime_priority_overrides": [
        ("revealjs", kind, rank)
        for rank, kind in enumerate(
            ("text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain")
        )
    ],
    "nb_ipywidgets_js": {},  # a widget without a kernel is dead; its text and its figure stay
    "suppress_warnings": ["toc.not_included"],
}


def render(sources: Path, target: Path, builder: str, settings: Mapping[str, Any]) -> None:
    """Build the pages of a folder into another one; raises ClassroomError with every warning of Sphinx."""
    warnings = io.StringIO()
    extensions = [*COMMON["extensions"], *settings.get("extensions", [])]
    overrides = {**COMMON, **settings, "extensions": extensions}
    # myst-nb also writes beside the pages, so they are built in a folder of their own.
    with TemporaryDirectory() as folder, docutils_namespace():
        pages, trees = Path(folder, "pages"), Path(folder, "trees")
        Sphinx(sources, None, pages, trees, builder, overrides, status=None, warning=warnings).build()
        if warnings.getvalue():
            faults = strip_escape_sequences(warnings.getvalue()).replace(f"{sources}{os.sep}", "").strip()
            raise ClassroomError(f"The pages have faults:\n{faults}")
        shutil.copytree(pages, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".buildinfo"))


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target`, and put it in its place when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        part.chmod(0o755)
        yield part
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_source(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook for Sphinx, with the alt text of each figure where myst-nb looks for it."""
    for cell in notebook.cells:
        alts = [
            output.metadata[kind]["alt"]
            for output in cell.get("outputs", [])
            for kind in output.get("data", {})
            if kind.startswith("image/")
        ]
        if len(alts) > 1:
            raise ClassroomError(
                f"A cell of {path.name} shows {len(alts)} figures, and alt text belongs to a cell: split it, "
                f"where it says {cell.source.splitlines()[0]!r}."
            )
        if alts:
            cell.metadata["mystnb"] = {"image": {"alt": alts[0]}}
    path.write_text(nbformat.writes(notebook), encoding="utf-8")


# ---------------------------------------------------------------- extension of Sphinx


class SlideTranslator(RevealjsSlideTranslator):
    """Writes slides whose code is colored while building, so that no script has to."""

    visit_literal_block = HTML5Translator.visit_literal_block
    depart_literal_block = HTML5Translator.depart_literal_block


def visit_math(translator: HTML5Translator, node: math) -> None:
    """Write a formula in the text as MathML."""
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise SkipNode


def visit_math_block(translator: HTML5Translator, node: math_block) -> None:
    """Write a formula of its own as MathML."""
    translator.body.append(tex2mathml(node.astext(), as_block=True))
    raise SkipNode


def setup(application: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    application.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    application.set_translator("revealjs", SlideTranslator, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
