"""How much memory this process needs once what is garbage was given back."""

import ctypes
import gc
import sys

_MIB = 1024 * 1024
# The working memory of the end-of-turn model (livekit-local-inference 0.2.7): up to four mappings
# of 64 MiB, of which 6, 12 or 24 MiB are in use, by chance and not by what any call keeps.
_SCRATCH = 64 * _MIB
_SCRATCH_MORE = _MIB


class _MallInfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and newer."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def settled() -> dict[str, float]:
    """Collect, give free pages back, and look.

    Returns:
        In MiB: `anonymous`, all pages that are this process's own, without the `scratch` of the
        end-of-turn model; `malloc`, what the C heaps have given out. `blocks`: Python's small
        objects.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.malloc_trim(ctypes.c_size_t(0))
    libc.mallinfo2.restype = _MallInfo2
    anonymous, scratch = _pages()
    return {
        "anonymous": round(anonymous - scratch, 3),
        "scratch": round(scratch, 3),
        "malloc": round(libc.mallinfo2().uordblks / _MIB, 3),
        "blocks": sys.getallocatedblocks(),
    }


def _pages() -> tuple[float, float]:
    """Return the MiB of all anonymous pages, and of those that are scratch."""
    anonymous = scratch = 0
    is_scratch = False
    with open("/proc/self/smaps") as maps:  # noqa: PTH123 - a file of the kernel
        for line in maps:
            head, _, rest = line.partition(" ")
            if not head.endswith(":"):
                begin, _, end = head.partition("-")
                size = int(end, 16) - int(begin, 16)
                named = len(rest.split()) > 4
                is_scratch = not named and size >= _SCRATCH and size % _SCRATCH <= _SCRATCH_MORE
            elif head == "Anonymous:":
                kib = int(rest.split()[0])
                anonymous += kib
                scratch += kib if is_scratch else 0
    return anonymous / 1024, scratch / 1024
