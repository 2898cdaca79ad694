"""Files with something wrong in them, drawn from good ones; and the bounds within which whoever reads them stays."""

import contextlib
import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["bounded", "mutated_bytes", "mutated_text"]

MOST_S, MOST_BYTES = 5.0, 2**30
WORDS = (
    *("-1", "0", "1e999", ".nan", "-.inf", "1e18", "99999999999999999999", "null", "true", "[]", "{}", "[[[]]]", "''"),
    *("{{key}}", "{key}", "{split}", "..", "/etc/passwd", "~", "<<: *a", "&a", "*a", "!!omap", "2001-13-40", "\t"),
    *("\x1b[31m", "%d%d%d", "\u202e", "\ufeff", "a" * 5000, "- - -", "?", "|", ">-", "#", "!!python/object:os.system"),
)
BYTES = (b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80", b"\x1b[2J", b"PK\x05\x06", b"\x1f\x8b", b"}{", b"NaN", b"-1")


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to three bits, runs, cuts, repeats or foreign pieces."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        size = min(len(data) - at, rng.choice((1, 2, 4, 8, 64, 1024)))
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = data[at : at + size]
        elif kind == 4:
            data[at : at + size] = rng.randbytes(size)
        elif kind == 5:
            data[at:at] = rng.choice(BYTES)
        else:
            data[at : at + size] = bytes(size)
    return bytes(data)


def mutated_text(text: str, rng: random.Random) -> str:
    """One to three lines that are gone, twice, elsewhere or of another depth, or words that are others."""
    lines = text.split("\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[at])
        elif kind == 2:
            lines.insert(rng.randrange(len(lines)), lines.pop(at))
        elif kind == 3:
            lines[at] = " " * rng.randrange(8) + lines[at].lstrip()
        elif kind == 4:
            head, colon, _ = lines[at].partition(":")
            lines[at] = f"{head}{colon} {rng.choice(WORDS)}"
        elif kind == 5:
            words = lines[at].split(" ")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[at] = " ".join(words)
        else:
            signs = list(lines[at])
            signs[rng.randrange(len(signs) + 1) : 0] = rng.choice(WORDS)
            lines[at] = "".join(signs)
        if not lines:
            lines = [""]
    return "\n".join(lines)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raises TimeoutError and MemoryError where what is within takes more than 5 s or 1 GiB more than there was."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {MOST_S} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    # Addresses are no memory: threads and pools reserve them by the gigabyte. So they are only a net below the bound.
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 8 * MOST_BYTES, limits[1]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    there = peak_bytes()
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, MOST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    if (taken := peak_bytes() - there) > MOST_BYTES:
        raise MemoryError(f"took {taken / 2**20:.0f} MiB")


def peak_bytes() -> int:
    """The most memory that this process has had since its peak was last made to begin anew."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
