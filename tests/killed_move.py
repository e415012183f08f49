"""`kixo move` that kills itself: `python -m tests.killed_move STEP ARGUMENTS…` ends by SIGKILL before that step.

A step is a call of one of these functions, counted from 1, wherever it comes from. A run that has fewer steps ends as
`kixo` would.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kixo.__main__ import main
from kixo.lake import copying
from kixo.server import moving

STEPS = (
    (moving, "_begin"),
    (moving, "_copy_registry"),
    (moving, "_drain"),
    (moving, "_check_loaded"),
    (moving, "copy_lake"),
    (copying, "_copy_files"),
    (moving, "differences"),
    (moving, "ensure_log"),
    (moving, "mark_moved"),
    (moving, "unmark_moved"),
    (moving, "write_move"),
    (moving, "_hand_over"),
)


def kill_before(step: int) -> None:
    """Has the process killed before a step."""
    left = [step]

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return called

    for module, name in STEPS:
        setattr(module, name, wrap(getattr(module, name)))


if __name__ == "__main__":
    kill_before(int(sys.argv[1]))
    sys.argv = ["kixo", "move", *sys.argv[2:]]
    sys.exit(main())
