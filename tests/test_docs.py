"""README, docs and CONTRIBUTING tell the truth: links lead somewhere, commands parse, what they name exists."""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest
import torch
from cyclopts import CycloptsError, MissingArgumentError

import last
from last.cli import app
from last.config import load_config
from last.models import list_models
from last.models.cost import cost, count_macs, count_parameters, markdown, on_paper
from last.settings import Config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# The original's commands are these of ours.
SCRIPTS = {"scripts/train.py": ["train"], "scripts/preprocess_v2.py": ["data", "prepare"]}


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def shell_lines(page: Path) -> list[list[str]]:
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def arguments(words: Sequence[str]) -> list[str] | None:
    """What follows ``last``, or None where the line is no command of LAST's."""
    if Path(words[0]).name == "last":
        return list(words[1:])
    if words[0] == "python" and len(words) > 1 and words[1] in SCRIPTS:
        return [*SCRIPTS[words[1]], *words[2:]]
    return None


def parse(tokens: list[str]) -> None:
    app.parse_args(tokens, exit_on_error=False, print_error=False)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, a heading that is not there"


def test_the_call_of_a_network_works_as_it_stands():
    (block,) = re.findall(r"^```python\n(.*?)^```$", text(ROOT / "docs" / "05_training.md"), re.DOTALL | re.MULTILINE)
    scope = {"last": last, "torch": torch}
    exec(block, scope)
    assert scope["scores"].shape == (8, 10)
    for called in (last.load_model, last.create_model):
        assert "(N, C, T, V, M)" in called.__doc__ and "Recognizer" in called.__doc__


def test_commands_parse():
    commands = [(page, words) for page in PAGES for line in shell_lines(page) if (words := arguments(line)) is not None]
    assert len(commands) > 10
    for page, words in commands:
        try:
            parse(words)
        except CycloptsError as error:
            pytest.fail(f"{page.name}: last {shlex.join(words)}: {error}")


def test_commands_named_in_the_text_exist():
    for page in PAGES:
        for code in inline_code(page):
            if code.startswith("last ") and (tokens := arguments(shlex.split(code))):
                try:
                    parse(tokens)
                except MissingArgumentError:
                    pass  # a mention without its arguments
                except CycloptsError as error:
                    pytest.fail(f"{page.name}: `{code}`: {error}")


def test_a_wrong_command_would_be_found():
    for line in ("last tarin", "last train --modle nano_e", "last data peek x", "python scripts/train.py --epoch 2"):
        tokens = arguments(line.split())
        assert tokens is not None
        with pytest.raises(CycloptsError):
            parse(tokens)


def test_programs_and_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE))
    named = [line[1] for page in PAGES for line in shell_lines(page) if line[0] == "make"]
    named += [code.split()[1] for page in PAGES for code in inline_code(page) if re.match(r"make [a-z]", code)]
    assert named
    assert set(named) <= targets
    scripts = [line[1] for page in PAGES for line in shell_lines(page) if line[0] == "python"]
    assert scripts
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def missing_names(code: str, tests: set[str], settings: set[str]) -> Iterator[str]:
    """What a piece of inline code names that does not exist."""
    if re.fullmatch(r"(src|configs|scripts|tests|docs)/[\w/.]*", code) and not (ROOT / code).exists():
        yield f"the file {code}"
    if re.fullmatch(r"test_\w+", code) and code not in tests:
        yield f"the test {code}"
    if (key := re.match(r"(model|data|training|environment)\.\w+", code)) and key[0] not in settings:
        yield f"the setting {key[0]}"
    if re.fullmatch(r"last(\.\w+)+", code) and not code.endswith(".safetensors"):
        module, _, name = code.rpartition(".")
        if not hasattr(import_module(module), name):
            try:
                import_module(code)
            except ModuleNotFoundError:
                yield f"the module or name {code}"


def test_what_is_named_exists():
    sources = (ROOT / "tests").rglob("test_*.py")
    tests = {name for source in sources for name in re.findall(r"def (test_\w+)", text(source))}
    settings = {f"{s}.{f.name}" for s, part in Config().sections().items() for f in dataclasses.fields(part)}
    named = [(page, code) for page in PAGES for code in inline_code(page)]
    missing = [f"{page.name}: {name}" for page, code in named for name in missing_names(code, tests, settings)]
    assert missing == []
    for wrong in ("src/last/nothing.py", "test_nothing", "training.nothing", "last.nothing", "last.data.nothing"):
        assert list(missing_names(wrong, tests, settings))


def test_sizes_in_the_text_are_those_of_the_networks():
    architecture = text(ROOT / "docs/03_architecture.md")
    rows = re.findall(r"^\| `(last\w+)` \|.*\| ([\d,]+) \| ([\d,.]+) M \|$", architecture, re.MULTILINE)
    assert [name for name, _, _ in rows] == [name for name in list_models() if name.startswith("last")]
    for name, parameters, macs in rows:
        digits = len(macs.partition(".")[2])
        assert parameters == f"{count_parameters(on_paper(name)):,}"
        assert macs == f"{count_macs(name) / 1e6:,.{digits}f}"


def test_the_readme_has_every_network_as_it_is_counted():
    rows = {row.split("`")[1]: row for row in text(ROOT / "README.md").splitlines() if re.match(r"\| `\w+` \|", row)}
    assert set(rows) == set(list_models())
    for name in ("last_e_nano", "ddnet_small", "sgn", "efficientgcn_b0"):
        assert rows[name] in markdown([cost(name)])


def test_recipes_in_the_text_are_those_of_the_files():
    columns = ("default", "nw_ucla", "few_clips", "pixels", "synthetic")
    recipes = [load_config(recipe=name).training for name in columns]
    rows = {
        cells[0]: cells[1:]
        for line in text(ROOT / "docs/05_training.md").splitlines()
        if line.startswith("|")
        and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 1 + len(columns)
    }
    for cells, of in (
        (rows["epochs, batch size"], lambda r: f"{r.epochs}, {r.batch_size}"),
        (rows["learning rate: first, peak, last"], lambda r: f"{r.warmup_lr:g}, {r.lr:g}, {r.min_lr:g}"),
        (rows["warm-up epochs"], lambda r: f"{r.warmup_epochs}"),
        (rows["EMA"], lambda r: f"{r.ema:g}" if r.ema else "none"),
        (rows["validation part"], lambda r: f"{100 * r.validation:g} %" if r.validation else "none"),
        (rows["rotation about x, y, z, degrees"], lambda r: ", ".join(f"{angle:g}" for angle in r.rotation)),
    ):
        assert cells == [of(recipe) for recipe in recipes]
