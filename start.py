"""Set this project up in .venv, once, and start it.

  python start.py                   open the notebooks in JupyterLab (the same as: lab)
  python start.py test [...]        run every test; what follows goes to pytest, for example: -k metrics
  python start.py notebooks [...]   run the notebooks again and save their outputs; all, or those named
  python start.py bench [...]       print the benchmark tables; all, or those named; options go to them
  python start.py serve [...]       serve recommendations on this machine; a small release, or a directory
  python start.py site              build the whole series as a static site, in build/site
  python start.py slides [...]      build slides in build/slides-45, with --path 90 in build/slides-90
  python start.py class NAME        make a clean copy for a class, and the teacher's folder, in build/classes
  python start.py setup             only set up

Paths after a command start at the repository. Needs Python 3.11 or newer, and the network the first time.
"""

# An old Python must be able to parse this file, to say that it is too old: no syntax younger than Python 2.7.

import argparse
import contextlib
import glob
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "set-up-complete.json")
PYTHON = os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
LAB = [
    "--ServerApp.root_dir=" + ROOT,
    "--ip=127.0.0.1",
    "--allow-root",  # as in a container; nobody but this machine can connect
    "--ServerApp.answer_yes=True",  # Ctrl-C ends the server without a question
]
# JupyterLab shall ask no other machine for news or updates, and shall not ask the reader about it.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


class SetUpError(Exception):
    """The set-up failed; the message names the reason and the repair."""


def too_old(version):
    """Return the sentence for a Python older than OLDEST, or None."""
    running = tuple(version[:2])
    if running >= OLDEST:
        return None
    return (
        "This project needs Python %d.%d or newer; you are running %d.%d. "
        "Install a newer Python and use it here, for example: python3.13 start.py"
        % (OLDEST + tuple(version[:2]))
    )


# ---------------------------------------------------------------- set-up


def fingerprint():
    """Hash everything that .venv was made from: both lists, the Python version, and the folder itself."""
    digest = hashlib.sha256(("%d.%d in %s" % (sys.version_info[:2] + (ROOT,))).encode("utf-8"))
    for name in ("pyproject.toml", "requirements.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def read_stamp():
    """Return what the last complete set-up wrote, or an empty dictionary."""
    try:
        with open(STAMP) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def is_set_up(extras):
    """Return whether .venv is complete and current, has these extras, and still runs."""
    stamp = read_stamp()
    if stamp.get("made_from") != fingerprint() or not set(extras) <= set(stamp["extras"]):
        return False
    try:  # its base Python may be gone
        return subprocess.call([PYTHON, "-c", ""], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def set_up(extras):
    """Make .venv, unless it is complete and current; the extras that it has, it keeps."""
    extras = sorted(set(extras).union(read_stamp().get("extras", [])))
    if is_set_up(extras):
        return
    with only_one():
        if not is_set_up(extras):  # nobody made it while this one waited
            build(extras)


def build(extras):
    """Make .venv from a clean folder; the stamp comes last, so that a set-up without it is incomplete."""
    began, made_from = time.time(), fingerprint()
    say("Setting up in .venv: once, about a minute.")
    if os.path.exists(STAMP):
        os.remove(STAMP)
    make_venv()
    install(extras)
    write_json(os.path.join(VENV, "share", "jupyter", "lab", "settings", "overrides.json"), LAB_SETTINGS)
    write_json(STAMP, {"made_from": made_from, "extras": sorted(extras)})
    say("Set up in %d seconds." % (time.time() - began))


def write_json(path, value):
    """Write a value as JSON, making the folder first where it is missing."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file)


@contextlib.contextmanager
def only_one():
    """Let one set-up run at a time; the system frees the lock when its holder ends, even by a kill."""
    handle = os.open(os.path.join(ROOT, ".venv.lock"), os.O_RDWR | os.O_CREAT)
    os.set_inheritable(handle, True)  # pip holds it too, should this process be killed before pip
    try:
        if not try_lock(handle):
            say("Another set-up is running here; waiting for it.")
            while not try_lock(handle):
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


def try_lock(handle):
    """Take the lock on an open file, or return False when somebody else holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def make_venv():
    """Make an empty virtual environment, with the Python below this one if this one is itself virtual."""
    base = getattr(sys, "_base_executable", sys.executable)
    code, lines = follow([base, "-m", "venv", "--clear", VENV])
    if code:
        raise SetUpError(
            "Python could not make the virtual environment .venv (%s). On Debian and Ubuntu, first run: "
            "sudo apt install python%d.%d-venv. Elsewhere, close whatever uses .venv, or install Python "
            "again. Then repeat your command." % ((" ".join(lines[-1:]),) + sys.version_info[:2])
        )


def install(extras):
    """Install this project with its dependencies, each at the version that requirements.txt pins."""
    project = ".[%s]" % ",".join(extras) if extras else "."
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    code, lines = follow(pip + ["-c", "requirements.txt", "-e", project])
    if code:
        raise SetUpError(
            "The packages could not be installed (%s). Check the network, the proxy and the free disk space, "
            "then repeat your command: it starts from a clean folder." % reason(lines)
        )
    # Done here, because the first notebook that draws would otherwise print a warning about it.
    follow([PYTHON, "-c", "import matplotlib.font_manager"])


def reason(lines):
    """Return why pip failed, from its own lines; without a network its last errors speak of conflicts."""
    if any("connection broken" in line for line in lines):
        return "the package index cannot be reached"
    return next((line for line in lines if line.startswith("ERROR:")), " ".join(lines[-1:]))


def follow(command, width=78):
    """Run a command, showing only its latest line; return its exit code and all its lines."""
    lines = []
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        close_fds=False,
    )
    with process:
        for line in process.stdout:
            lines.append(line.strip())
            show(lines[-1][:width].ljust(width))
    show(" " * width)
    return process.returncode, lines


def show(text):
    """Write over the current line of a terminal; write nothing into a file."""
    if sys.stdout.isatty():
        sys.stdout.write(text + "\r")
        sys.stdout.flush()


def say(text):
    """Print a line at once, so that it stands before whatever a command prints."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- commands


def run(command, **variables):
    """Run a command in the repository to its end and return its exit code."""
    # Threads that spin while they wait make scikit-learn many times slower on a busy machine.
    environment = dict(os.environ, OMP_WAIT_POLICY="PASSIVE", **variables)
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    # Ctrl-C reaches the command as well: let it end by itself. A plain kill is passed on.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    return process.wait()


def lab(arguments):
    """Open JupyterLab on the repository, at the first notebook."""
    names = sorted(glob.glob(os.path.join(ROOT, "notebooks", "[0-9]*.ipynb")))
    page = "/lab/tree/notebooks/" + os.path.basename(names[0])
    return run([PYTHON, "-m", "jupyterlab", "--LabApp.default_url=" + page] + LAB + arguments)


def test(arguments):
    """Run pytest; sets and dictionaries of strings keep one order, so that a failure can be repeated."""
    return run([PYTHON, "-m", "pytest"] + arguments, PYTHONHASHSEED="0")


def notebooks(arguments):
    """Run the notebooks again and save their outputs."""
    return run([PYTHON, os.path.join("notebooks", "build.py")] + arguments)


def bench(arguments):
    """Run the benchmarks one after the other; stop at the first that fails. Options go to each of them."""
    options = list(itertools.dropwhile(lambda argument: not argument.startswith("-"), arguments))
    names = arguments[: len(arguments) - len(options)]
    scripts = sorted(glob.glob(os.path.join(ROOT, "benchmarks", "*.py")))
    by_name = {os.path.splitext(os.path.basename(script))[0]: script for script in scripts}
    unknown = set(names) - set(by_name)
    if not names and {"-h", "--help"} & set(options):
        say("usage: start.py bench [name ...] [options]; for its options: start.py bench NAME --help\n")
        say("names: %s" % ", ".join(by_name))
        return 0
    if unknown:
        sys.stderr.write("No benchmark %s. There are: %s.\n" % (", ".join(unknown), ", ".join(by_name)))
        return 2
    for name in names or by_name:
        code = run([PYTHON, by_name[name]] + options)
        if code:
            return code
    return 0


def serve(arguments):
    """Serve recommendations on this machine until Ctrl-C."""
    return run([PYTHON, "-m", "helpers.app"] + arguments)


def site(arguments):
    """Build the static site."""
    return run([PYTHON, "-m", "classroom", "site"] + arguments)


def slides(arguments):
    """Build the slides."""
    return run([PYTHON, "-m", "classroom", "slides"] + arguments)


def make_class(arguments):
    """Make the folder of a class."""
    return run([PYTHON, "-m", "classroom", "class"] + arguments)


def setup(arguments):
    """Do nothing more than the set-up that every command begins with."""
    return 0


COMMANDS = {
    "lab": lab,
    "test": test,
    "notebooks": notebooks,
    "bench": bench,
    "serve": serve,
    "site": site,
    "slides": slides,
    "class": make_class,
    "setup": setup,
}
ROOMS = {
    "test": "tests",
    "bench": "benchmarks",
    "site": "classroom",
    "slides": "classroom",
    "class": "classroom",
}
NEEDS = {"site": ["classroom"], "slides": ["classroom"], "class": ["classroom"]}  # the extras of a command


def known_extras():
    """Return the names of the optional dependency sets in pyproject.toml."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        return sorted(tomllib.load(file)["project"]["optional-dependencies"])


def parse(arguments):
    """Return the options, and the arguments that belong to the command."""
    own_help = not arguments or arguments[0] not in COMMANDS  # after a command it is that of the command
    parser = argparse.ArgumentParser(
        "start.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=own_help,
    )
    parser.add_argument("command", nargs="?", default="lab", choices=sorted(COMMANDS), metavar="command")
    parser.add_argument(
        "--with",
        dest="extras",
        action="append",
        default=[],
        choices=known_extras(),
        help="also install an optional set of packages: %(choices)s",
    )
    return parser.parse_known_args(arguments)


def main(arguments, version=sys.version_info):
    """Set up, run the command, and return its exit code."""
    complaint = too_old(version)
    if complaint:
        sys.stderr.write(complaint + "\n")
        return 1
    options, rest = parse(arguments)
    room = ROOMS.get(options.command)
    if room and not os.path.isdir(os.path.join(ROOT, room)):
        sys.stderr.write("This is a copy for learners, without %s: use the full project.\n" % room)
        return 1
    try:
        set_up(options.extras + NEEDS.get(options.command, []))
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Repeat your command to set up again, from a clean folder.\n")
        return 130
    except SetUpError as error:
        sys.stderr.write("%s\n" % error)
        return 1
    except OSError as error:
        sys.stderr.write("The set-up failed (%s). Check that you may write in this folder.\n" % error)
        return 1
    return COMMANDS[options.command](rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
