"""Runs cells in a Jupyter kernel, one after the other, as a notebook does.

    notebook.py FILE

The file holds a JSON list of cells; where a cell prints `INTERRUPT`, the kernel is interrupted, as
by the notebook's stop button. Standard output and error of all cells go to standard output, and
so do tracebacks. Exit code 1: a cell failed, or the kernel died.
"""

from __future__ import annotations

import json
import queue
import sys
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

DEADLINE_S = 120


def main() -> int:
    """Run the cells."""
    manager, client = start_new_kernel(startup_timeout=DEADLINE_S)
    try:
        for cell in json.loads(Path(sys.argv[1]).read_text()):
            if not _run(manager, client, cell):
                return 1
        return 0
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run(manager: Any, client: Any, cell: str) -> bool:
    request = client.execute(cell)
    while True:
        try:
            message = client.get_iopub_msg(timeout=DEADLINE_S)
        except queue.Empty:
            print("the kernel is silent; alive:", manager.is_alive())
            return False
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            print(content["text"], end="", flush=True)
            if "INTERRUPT" in content["text"]:
                manager.interrupt_kernel()
        elif message["msg_type"] == "error":
            print("\n".join(content["traceback"]))
            return False
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return True


if __name__ == "__main__":
    sys.exit(main())
