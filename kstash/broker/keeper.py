"""Runs one program and kills it when the process that asked for it is gone, for whatever reason.

A broker must not outlive its owner, also after kill -9. The kernel's parent-death signal is tied to
a thread and unknown to macOS, and an inherited pipe stays open in forked children of the owner. So
this small process stands between: it checks every 50 ms whether the owner is still its parent.
Should the keeper itself be killed, Linux kills the program too.

Usage: `keeper.py OWNER_PID FOLDER PROGRAM ARGUMENT...`; FOLDER is deleted when the owner has gone
without ending the program, empty for none. Writes the program's pid to standard output. Only the
standard library, as it runs with `-I -S`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

_CHECK_INTERVAL_S = 0.05
_PR_SET_PDEATHSIG = 1


def _die_with_keeper() -> None:
    """Runs in the child before exec; the keeper has one thread, which lives as long as it does."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(owner: int, folder: str, command: list[str]) -> int:
    """Run `command` until it ends or the owner is gone.

    Args:
        owner: process id of the process that must stay alive.
        folder: folder to delete when the owner is gone, or "".
        command: the program and its arguments.

    Returns:
        The program's exit code, negative for a signal.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        preexec_fn=_die_with_keeper if sys.platform == "linux" else None,
    )
    print(child.pid, flush=True)
    while child.poll() is None:
        if os.getppid() != owner:
            child.kill()
            child.wait()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
            break
        time.sleep(_CHECK_INTERVAL_S)
    assert child.returncode is not None
    return child.returncode


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # A signal's number as a positive exit code, as shells do.
    code = main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    sys.exit(code if code >= 0 else 128 - code)
