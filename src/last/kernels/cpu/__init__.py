"""LAST-E on a CPU: C++ kernels, compiled where they run."""
