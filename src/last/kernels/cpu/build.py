"""The kernels in native/, compiled on this machine at their first use and kept for later ones.

What comes out is made for the processor at hand, so it is built where it runs: seconds, once, with any C++ compiler.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
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


def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        BuildError: there is no compiler, it fails, or there is no place to keep what it makes.
    """
    built = _built()
    if isinstance(built, str):
        raise BuildError(built)
    return built[0]


def uses_threads() -> bool:
    """Whether the kernels of :func:`library` share their work among threads."""
    built = _built()
    return not isinstance(built, str) and built[1]


@cache
def _built() -> tuple[ctypes.CDLL, bool] | str:
    """The kernels and whether they use threads, or why there are none: a compiler that fails is asked once."""
    try:
        compiler = _compiler()
        sources = sorted(SOURCES.iterdir())
        known = hashlib.blake2b(digest_size=16)
        for part in (*compiler, platform.machine(), _processor(), torch.__version__, *FLAGS):
            known.update(part.encode())
        for source in sources:
            known.update(source.read_bytes())
        target = _folder() / f"last-{known.hexdigest()}.so"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise BuildError(f"{target.parent} cannot be written; name another folder in LAST_CACHE")
        sources = [source for source in sources if source.suffix == ".cpp"]
    except (BuildError, OSError, ValueError) as error:
        return str(error)
    fault: Exception | None = None
    for flags, file in (["-fopenmp"], target), ([], target.with_suffix(".one_thread.so")):
        try:
            # PyTorch has loaded the runtime of its threads; the kernels share it, as two would fight for the cores.
            return _loaded(compiler, sources, flags, file), bool(flags)
        except (BuildError, OSError) as error:
            fault = fault or error
    return f"{compiler[0]} cannot build the kernels ({fault})"


def _loaded(compiler: list[str], sources: list[Path], flags: list[str], file: Path) -> ctypes.CDLL:
    if file.exists():
        try:
            return ctypes.CDLL(str(file))
        except OSError:
            file.unlink(missing_ok=True)  # damaged
    _compile(compiler, sources, flags, file)
    return ctypes.CDLL(str(file))


def _compile(compiler: list[str], sources: list[Path], flags: list[str], target: Path) -> None:
    tuning = "-mcpu=native" if platform.machine() in {"aarch64", "arm64"} else "-march=native"
    undefined = ["-undefined", "dynamic_lookup"] if platform.system() == "Darwin" else []
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, ThreadPoolExecutor(len(sources)) as pool:
        # Compiled and linked apart: the linker shall not tie the kernels to a threads' runtime of the compiler's own.
        objects = [str(Path(folder) / f"{source.stem}.o") for source in sources]
        commands = [
            [*compiler, *FLAGS, tuning, *flags, "-c", str(source), "-o", made]
            for source, made in zip(sources, objects, strict=True)
        ]
        list(pool.map(_run, commands))
        linked = Path(folder) / target.name
        _run([*compiler, "-shared", *undefined, "-o", str(linked), *objects])
        with linked.open("rb") as file:
            os.fsync(file.fileno())  # a file of half its length would end every process that loads it
        linked.replace(target)  # whole or not at all, also when two processes build at once


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(str(error)) from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise BuildError(reason or f"exit status {done.returncode}")


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    candidates = [named] if named else [[name] for name in COMPILERS]
    for command in candidates:
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    names = ", ".join(command[0] for command in candidates)
    raise BuildError(f"no C++ compiler was found ({names}); install g++, or name one in CXX")


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
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "last"
    except RuntimeError as error:
        raise BuildError("this user has no home folder; name a folder in LAST_CACHE") from error
