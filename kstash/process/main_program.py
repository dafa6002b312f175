"""The main program of this process: whether it can be executed again up to this call of `run`.

Two things need that: the hash seed can be pinned only before the interpreter starts, and each
worker of a supervisor runs the program again. A prompt, a notebook or a test runner would lose all
that it holds, and a program from standard input is gone once it was read. So the stack is
inspected: the program's own code must be on it, and no code of others that calls the program.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

import structlog

HASH_SEED = "0"
"""Pinned, because iteration over sets must be the same on replay (protocol, section 3)."""

SEED_VARIABLE = "PYTHONHASHSEED"

LAUNCHERS = frozenset(
    {
        *("__main__", "contextlib", "functools", "importlib", "kstash", "runpy"),
        *("absl", "click", "cyclopts", "fire", "hydra", "rich_click", "typer"),
        *("cProfile", "coverage", "profile"),
    }
)
"""Packages of others that run a program from its beginning to its end, and do nothing else."""

DEBUGGER = "pydevd"
"""The module that the debuggers of editors have in common; their files may be anywhere."""

FORKED_FLAG = 0x40
"""`PF_FORKNOEXEC` of Linux: the process is the copy of another one."""

INTERPRETER = "it was typed into an interpreter or a notebook, or came from standard input"

log = structlog.get_logger("kstash")


def obstacle() -> str | None:
    """Why the program cannot be executed again up to here; None: it can."""
    if threading.current_thread() is not threading.main_thread():
        return "run() was called in a thread"
    if _is_copy():
        return "this process is the copy of another one"
    frames = list(_frames())
    main = sys.modules["__main__"]
    if not sys.executable or not _is_program(main, frames):
        return INTERPRETER
    if DEBUGGER in sys.modules:
        return "a debugger runs it, and would lose it"
    if is_in_event_loop():
        return "run() was called in an event loop"
    if caller := _foreign_caller(frames):
        return f"run() was called by {caller}"
    if not _is_found(main):
        return "its file is not where it was when it was started"
    return None


def command() -> list[str]:
    """The command that executes the program again; only where there is no `obstacle`."""
    return [sys.executable, *sys.orig_argv[1:]]


def pin_hash_seed(hindered_by: str | None) -> None:
    """Execute the program again with the pinned hash seed, or warn where that is not possible.

    Args:
        hindered_by: the result of `obstacle`.
    """
    if is_pinned():
        return
    if sys.flags.ignore_environment:
        reason = "Python was started with -E or -I, which have it ignore PYTHONHASHSEED"
    elif os.environ.get(SEED_VARIABLE) == HASH_SEED:
        # Not once more: the program would execute itself without end.
        reason = "PYTHONHASHSEED=0 has no effect: Python's -R does that, or it was set too late"
    elif hindered_by is not None:
        reason = f"the program cannot be executed again: {hindered_by}"
    else:
        os.environ[SEED_VARIABLE] = HASH_SEED
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, command())
    log.warning(
        "hash seed not pinned",
        reason=reason,
        effect="a function whose result depends on hash() or on the order of a set cannot be "
        "replayed after a crash: it would stop with ReplayDivergedError",
        fix="start Python with PYTHONHASHSEED=0 in its environment",
    )


def is_pinned() -> bool:
    """Whether `hash()` of text is the same in each process, as far as Python's version is."""
    return not sys.flags.hash_randomization


def hashing() -> str:
    """A value that identifies the hash seed, for START; empty for the pinned one."""
    return "" if is_pinned() else f"{hash('kstash') & (1 << 64) - 1:016x}"


def is_in_event_loop() -> bool:
    """Whether a loop of asyncio waits for this call to return."""
    asyncio = sys.modules.get("asyncio")  # a program that has not imported it has no loop
    return asyncio is not None and asyncio._get_running_loop() is not None


# -- the process and its stack -------------------------------------------------------------------


def _is_copy() -> bool:
    """Whether the process was forked without an exec since, or is multiprocessing's."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        return True
    try:
        flags = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[6]
    except OSError:  # this system has no /proc
        return False
    return bool(int(flags) & FORKED_FLAG)


def _frames() -> Iterator[FrameType]:
    """The stack, the innermost frame first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_program(main: ModuleType, frames: list[FrameType]) -> bool:
    """Whether the main module is on the stack, read from a file or the option -c."""
    for frame in frames:
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            if getattr(main, "__file__", None) is not None:
                return not frame.f_code.co_filename.startswith("<")
            return frame.f_code.co_filename == "<string>" and "-c" in sys.orig_argv
    return False


def _foreign_caller(frames: list[FrameType]) -> str | None:
    """The innermost package on the stack that is neither the program's nor a launcher."""
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames]
    calling = next((package for package in packages if package != "kstash"), "")
    for frame, package in zip(frames, packages, strict=True):
        if package not in LAUNCHERS and package != calling and _is_installed(frame):
            return package.removeprefix("_")
    return None


def _is_installed(frame: FrameType) -> bool:
    """Whether code is Python's or that of an installed package."""
    path = Path(frame.f_code.co_filename)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return str(path).startswith("<frozen") or path.is_relative_to(sysconfig.get_path("stdlib"))


def _is_found(main: ModuleType) -> bool:
    """Whether the command line still leads to the program, from the folder that is current now."""
    if main.__spec__ is not None or "-c" in sys.orig_argv or getattr(sys, "frozen", False):
        return True
    file = Path(str(main.__file__))
    return file.exists() and any(
        Path(argument).exists() and file.samefile(argument) for argument in sys.orig_argv[1:]
    )
