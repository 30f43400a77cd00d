"""The kernels in native/, compiled on this machine at their first use and kept for later ones.

What comes out is made for the processor at hand, so it is built where it runs: seconds, once, with any C++ compiler.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "native"
# In the order in which they are looked for, after the one that CXX names.
COMPILERS = ("c++", "g++", "clang++")
# A loss that is no number must stay none, so not all of -ffast-math.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
SECONDS = 300  # that a compiler may take


class BuildError(RuntimeError):
    """The kernels cannot be built or loaded here; the message says why."""


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    compiler = _compiler()
    sources = sorted(SOURCES.iterdir())
    known = hashlib.blake2b(digest_size=16)
    for part in (compiler, platform.machine(), _processor(), torch.__version__, *FLAGS):
        known.update(part.encode())
    for source in sources:
        known.update(source.read_bytes())
    folder = _folder()
    for threads in (("-fopenmp",), ()):
        target = folder / f"last-{known.hexdigest()}{'-threads' * bool(threads)}.so"
        try:
            if not target.exists():
                _compile(compiler, [source for source in sources if source.suffix == ".cpp"], threads, target)
            # PyTorch has loaded the runtime of its threads; the kernels share it, as two would fight for the cores.
            return ctypes.CDLL(str(target))
        except (BuildError, OSError) as error:
            fault = error
    raise BuildError(f"{compiler} cannot build the kernels ({fault})")


def _compile(compiler: str, sources: list[Path], flags: tuple[str, ...], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # Compiled and linked apart: the linker shall not tie the kernels to a threads' runtime of the compiler's own.
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        for source, made in zip(sources, objects, strict=True):
            tuning = "-mcpu=native" if platform.machine() in {"aarch64", "arm64"} else "-march=native"
            _run([compiler, *FLAGS, tuning, *flags, "-c", str(source), "-o", str(made)])
        linked = Path(folder) / target.name
        undefined = ["-undefined", "dynamic_lookup"] if platform.system() == "Darwin" else []
        _run([compiler, "-shared", *undefined, "-o", str(linked), *map(str, objects)])
        linked.replace(target)  # whole or not at all, also when two processes build at once


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(str(error)) from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise BuildError(reason or f"exit status {done.returncode}")


def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise BuildError(f"no C++ compiler was found ({', '.join(names)}); install g++, or name one in CXX")
    return found


def _processor() -> str:
    """What tells processors apart that need programs of their own."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    telling = ("model name", "flags", "Features", "CPU part")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(telling)}))


def _folder() -> Path:
    """Where programs are kept: $LAST_CACHE, else the user's cache."""
    if chosen := os.environ.get("LAST_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "last"
