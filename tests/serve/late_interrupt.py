"""The terminal chat with a Ctrl-C that breaks no wait: `python -m tests.serve.late_interrupt FIFO ...`, when FIFO is opened for writing."""

import _thread
import sys
import threading
from pathlib import Path

from llava.cli import main


def interrupt(fifo: Path) -> None:
    """As a signal that came while a key was at work: Python knows of it, and already waits for the next key."""
    fifo.read_bytes()
    _thread.interrupt_main()


if __name__ == "__main__":
    threading.Thread(target=interrupt, args=[Path(sys.argv[1])], daemon=True).start()
    sys.exit(main(["chat", *sys.argv[2:]]))
