"""How child processes ended, in words. This module loads no torch."""

import signal


def exit_text(returncode: int) -> str:
    """Returns how a process ended.

    Args:
        returncode: As `subprocess.Popen.returncode` gives it: negative for a signal.
    """
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"
