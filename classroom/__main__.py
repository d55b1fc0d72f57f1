"""Make the site, slides, or the folder of a class, below build/.

python start.py site                        the whole series as a static site
python start.py slides [names] [--path 90]  slides of all notebooks, or of those whose names start so; they
                                            replace those that were built for the same path
python start.py class NAME                  a clean copy for a class, and the teacher's folder beside it
"""

import argparse
import sys
from pathlib import Path

from classroom.classes import build_class, class_folder, uncommitted
from classroom.sections import PATHS, ClassroomError, read_notes, taught
from classroom.site import build_site
from classroom.slides import build_slides
from notebooks.build import BuildError, chosen

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run a command; return the exit code."""
    parser = argparse.ArgumentParser(
        "start.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("site", help="the whole series as a static site")
    slides = commands.add_parser("slides", help="slides of the notebooks")
    slides.add_argument("names", nargs="*", help="how the names of the notebooks start; default: all")
    slides.add_argument("--path", choices=PATHS, default="45", help="the minutes of the lesson; default: 45")
    commands.add_parser("class", help="a clean copy for a class").add_argument("name", help="of the class")
    options = parser.parse_args(arguments)
    try:
        made = make(options, root)
    except (ClassroomError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was there before is as it was.", file=sys.stderr)
        return 130
    print(f"Made: {made}")
    return 0


def make(options: argparse.Namespace, root: Path) -> Path:
    """Make what was asked for; return where to look first."""
    if options.command == "class":
        folder = class_folder(root, options.name)
        build_class(root, folder)
        return folder
    if changed := uncommitted(root):
        print(f"Not as committed, and shown as they are, answers included: {', '.join(changed)}")
    if options.command == "site":
        target = root / "build" / "site"
        build_site(root, target)
    else:
        target = root / "build" / f"slides-{options.path}"
        notes, paths = read_notes(root / "notebooks"), chosen(root / "notebooks", options.names)
        build_slides(target, paths if options.names else taught(paths, notes), [options.path], notes)
    return target / "index.html"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
