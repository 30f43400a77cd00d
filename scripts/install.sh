#!/bin/sh
# Make a virtual environment and install LAST with its development tools: scripts/install.sh FOLDER
# TORCH=auto (default), cpu or cuda chooses PyTorch's build; PYTHON the interpreter; EXTRAS the optional parts.
set -eu

venv=$1
python=${PYTHON:-python3}
torch=${TORCH:-auto}
extras=${EXTRAS:-dev}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "LAST needs Python 3.10 or newer; $python is $("$python" --version 2>&1). Give another: make PYTHON=python3.12" >&2
  exit 1
}
if [ "$torch" = auto ]; then
  if nvidia-smi -L >/dev/null 2>&1; then torch=cuda; else torch=cpu; fi
  echo "PyTorch: the $torch build, as this machine has $([ "$torch" = cuda ] && echo a || echo no) GPU (choose with TORCH=cpu or TORCH=cuda)"
fi

"$python" -m venv "$venv"
pip="$venv/bin/pip --disable-pip-version-check"
if [ "$torch" = cpu ] && [ "$(uname)" = Linux ]; then
  # On Linux the default index serves CUDA builds of several gigabytes. A wheel that lies at hand comes first, then
  # PyTorch's index of CPU builds. Without dependencies, which the last step takes from the default index.
  $pip install -q --no-index --no-deps -c constraints.txt torch 2>/dev/null ||
    env -u PIP_EXTRA_INDEX_URL $pip install --no-deps --index-url https://download.pytorch.org/whl/cpu -c constraints.txt torch
fi
$pip install -q -c constraints.txt -e ".[$extras]"
