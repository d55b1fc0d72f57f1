"""A clean copy of the project for one class, and beside it what only the teacher should see."""

import io
import re
import subprocess
import tarfile
from pathlib import Path

import nbformat

from classroom.handbook import build_handbook
from classroom.rendering import STATIC, replacing
from classroom.sections import NOTES, PATHS, ClassroomError, read_notes, taught
from classroom.slides import build_slides
from notebooks.build import notebook_paths, write_whole

NOT_FOR_LEARNERS = (f"notebooks/{NOTES}", "classroom", "tests", "benchmarks", "README.md", ".ci")


def build_class(root: Path, target: Path) -> None:
    """Make `target`/learners, a copy of what is committed, and `target`/teacher: slides, handbook, answers.

    Raises ClassroomError, and leaves nothing behind, if `target` holds something or the project is no clone.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ClassroomError(f"{target} is there already, and not empty: choose another name, or remove it.")
    notes = read_notes(root / "notebooks")
    with replacing(target) as part:
        learners, teacher = part / "learners", part / "teacher"
        copy_committed(root, learners)
        notebooks = taught(notebook_paths(learners / "notebooks"), notes)
        build_slides(teacher / "slides", notebooks, list(PATHS), notes)
        (teacher / "handbook.html").write_text(build_handbook(notebooks, notes), encoding="utf-8")
        (learners / "README.md").write_bytes((STATIC.parent / "for_learners.md").read_bytes())
        for notebook in notebook_paths(learners / "notebooks"):
            clear(notebook)


def clear(path: Path) -> None:
    """Take the outputs out of a notebook: nobody shall read what was measured before the guess."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    write_whole(path, nbformat.writes(notebook) + "\n")


def copy_committed(root: Path, target: Path) -> None:
    """Write every committed file of the project but the teacher's into a new folder."""
    excluded = [f":(exclude){pattern}" for pattern in NOT_FOR_LEARNERS]
    command = ["git", "-c", "core.autocrlf=false", "archive", "HEAD", "--", ".", *excluded]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    except FileNotFoundError:
        raise ClassroomError(
            "A class gets what is committed: install git, then repeat your command."
        ) from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise ClassroomError(
            f"A class gets what is committed, and git cannot tell ({reason}): clone the project, and run "
            "your command there."
        ) from None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")


def uncommitted(root: Path) -> list[str]:
    """Return the names of the notebooks that differ from what is committed; none where git cannot tell."""
    command = ["git", "diff", "--name-only", "HEAD", "--", "notebooks/*.ipynb"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=True, encoding="utf-8")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return []
    return [Path(line).name for line in done.stdout.splitlines()]


def class_folder(root: Path, name: str) -> Path:
    """Return the folder of a class; raises ClassroomError when the name is not a plain one."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ClassroomError(f"{name!r} cannot name a class: use letters, digits, dots and hyphens.")
    return root / "build" / "classes" / name
