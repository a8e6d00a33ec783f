"""How the C library keeps memory between steps."""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed instead of giving it back to the kernel; False where there is no glibc.

    By default every activation of some megabytes is mapped, faulted in page by page and unmapped again in each step;
    on a virtual machine that was a quarter of a step's time (151 → 111 ms for the Burgess network at batch 64).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # 32 MiB is the largest mmap threshold that glibc takes on 64 bits.
    settings = ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 1 << 30), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
