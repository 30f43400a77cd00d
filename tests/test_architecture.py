"""Imports go one way only: a clip's path from file to score, then what starts and watches it."""

import ast
from pathlib import Path

import pytest

import last

ROOT = Path(last.__file__).parent
# From the ground up; a module may import from its own layer and those below.
LAYERS = [
    {"config", "files", "provenance", "progress", "setting_values", "settings"},
    {"constants", "skeleton"},
    {"streams"},
    {"data", "models"},
    {"evaluate", "kernels"},
    {"training"},
    {"lineage", "pretrained", "recognizer", "run", "scored_run", "start", "teachers"},
    {"report"},
    {"run_evaluation"},
    {"workflow"},
    {"bench"},
    {"compare", "doubt", "fusion"},
    {"cli", "cli_bench", "cli_compare", "cli_data", "cli_look", "cli_models", "cli_search"},
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
MODULES = sorted(ROOT.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "last" else [module]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # the package itself offers names from every layer
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "last" and len(parts) > 1 and parts[1] in HEIGHT:
            assert HEIGHT[parts[1]] <= HEIGHT[own], f"{own} imports {name}, which lies above it"


def test_networks_and_data_do_not_know_each_other():
    for part, other in (("models", "last.data"), ("data", "last.models")):
        for path in (ROOT / part).rglob("*.py"):
            assert not any(name.startswith(other) for name in imported(path)), path


def test_every_module_has_its_layer():
    top = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert top == set(HEIGHT)


def test_only_the_command_line_needs_cyclopts_and_only_config_reads_yaml():
    for path in MODULES:
        names = {name.split(".")[0] for name in imported(path)}
        assert "cyclopts" not in names or path.name.startswith("cli"), path
        # run.py and search.py write settings; the other reads them, for config.py, and lists on a command line
        assert "yaml" not in names or path.name in {"setting_values.py", "run.py", "search.py"}, path


def test_nothing_that_a_user_opens_can_run_code():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, keys = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "os.system"}, path
            assert name != "torch.load" or keys.get("weights_only") == "True", path
            assert name not in {"np.load", "numpy.load"} or keys.get("allow_pickle", "False") == "False", path
            assert keys.get("shell", "False") == "False", path
