"""The shape that every notebook has: a page that a person reads, and a function that papermill calls."""

from __future__ import annotations

import ast
import re
import tokenize
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import CliRunner
from nbformat import NotebookNode
from papermill import inspect_notebook
from papermill.cli import papermill as papermill_command

from runbook.settings import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
TROUBLESHOOTING = ROOT / "notebooks" / "troubleshooting.md"
CODE_LINES = 25
"""Lines of code in all that a notebook may have: it is for reading."""

PARAMETER_TYPES = {"str", "int", "float", "bool", "list[str]", "dict[str, str]"}
HEAD = ("Question", "Changes", "Needs", "Takes", "Next")
LOGIC = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.For,
    ast.While,
    ast.If,
    ast.Try,
    ast.With,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
    ast.GeneratorExp,
)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "notebooks")))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def changes_nothing(notebook: NotebookNode) -> bool:
    """Whether its first cell says that it only reads."""
    return bool(re.search(r"\*\*Changes\*\*\s*\|\s*nothing", notebook.cells[0].source, re.IGNORECASE))


def is_onboarding(path: Path) -> bool:
    return path.parent.name == "onboarding"


def test_there_are_notebooks() -> None:
    """The tests below look at something: the start page and the six of onboarding are there."""
    names = {path.stem for path in NOTEBOOKS}
    assert {"00-start-here", "10-check-connection", "40-register-runner", "80-run-smoke-job"} <= names


@every_notebook
def test_format(path: Path) -> None:
    """nbformat 4.5, a kernel by its common name, cell ids that people can read, valid for every tool."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", id) for id in ids)


@every_notebook
def test_nothing_of_a_run_is_kept(path: Path) -> None:
    """No output and no execution count is in git: an executed notebook is another file."""
    for cell in code_cells(read(path)):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not set(cell.metadata) - {"tags"}


@every_notebook
def test_file_name_and_title_agree(path: Path) -> None:
    """`NN-words-of-the-title.ipynb` begins with `# NN Title`: the number is the order of reading."""
    match = re.fullmatch(r"(\d\d)-([a-z-]+)", path.stem)
    assert match, path.name
    title = read(path).cells[0].source.splitlines()[0]
    assert re.fullmatch(rf"# {match[1]} .+", title)
    words = set(re.findall(r"[a-z]+", title.lower()))
    assert set(match[2].split("-")) <= words, f"{title!r} does not say {match[2]!r}"


@every_notebook
def test_first_cell_says_what_it_is(path: Path) -> None:
    """The first cell answers: which question, what it changes, what it needs, how long it takes, what comes next."""
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    for word in HEAD:
        assert re.search(rf"\*\*{word}\*\*", first.source), f"{word} is missing"


@every_notebook
def test_parameters_cell_comes_first(path: Path) -> None:
    """One cell is tagged `parameters`, and it is the first of code: papermill puts the given values right after it."""
    notebook = read(path)
    (cell,) = tagged(notebook, "parameters")
    assert cell is code_cells(notebook)[0]


@every_notebook
def test_parameters_are_typed_constants(path: Path) -> None:
    """A parameter is `name: type = constant`, of a type that papermill can pass on the command line."""
    (cell,) = tagged(read(path), "parameters")
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        assert ast.unparse(statement.annotation) in PARAMETER_TYPES, ast.unparse(statement)
        assert statement.value is not None
        ast.literal_eval(statement.value)


@every_notebook
def test_parameters_avoid_papermills_traps(path: Path) -> None:
    """One line each, one `=` and one `#` on it: papermill reads the line with a pattern, not with a parser."""
    (cell,) = tagged(read(path), "parameters")
    for line in cell.source.splitlines():
        assert line.count("=") == 1, f"a second `=` makes the parameter vanish: {line}"
        assert line.count("#") == 1, f"`#` in a text splits the default: {line}"
        assert "|" not in line.partition("#")[0], f"a union makes the parameter vanish: {line}"
        comments = [one for one in tokenize.generate_tokens(StringIO(line).readline) if one.type == tokenize.COMMENT]
        assert len(comments) == 1, line


@every_notebook
def test_papermill_sees_every_parameter_with_its_help(path: Path) -> None:
    """What the cell declares is what `inspect_notebook` finds: name, type, default and a sentence of help."""
    (cell,) = tagged(read(path), "parameters")
    declared = {one.target.id: one for one in ast.parse(cell.source).body if isinstance(one, ast.AnnAssign)}  # type: ignore[union-attr]
    seen: dict[str, Any] = inspect_notebook(str(path))
    assert list(seen) == list(declared)
    for name, parameter in seen.items():
        assert parameter["inferred_type_name"] == ast.unparse(declared[name].annotation)
        assert ast.literal_eval(parameter["default"]) == ast.literal_eval(declared[name].value)
        assert len(parameter["help"]) > 5, name


@every_notebook
def test_help_notebook_is_a_manual_page(path: Path) -> None:
    """`papermill --help-notebook` prints each parameter with its type, its default and its help."""
    done = CliRunner().invoke(papermill_command, ["--help-notebook", str(path)])
    assert done.exit_code == 0, done.output
    assert "Can't infer" not in done.output
    for name, parameter in inspect_notebook(str(path)).items():
        assert f"{name}: {parameter['inferred_type_name']} (default {parameter['default']})" in done.output
        assert parameter["help"].split()[0] in done.output


@every_notebook
def test_the_cards_parameter_is_the_same_everywhere(path: Path) -> None:
    """`cluster` names the practice card by default, and whatever changes something rehearses by default."""
    notebook = read(path)
    parameters = {name: ast.literal_eval(one["default"]) for name, one in inspect_notebook(str(path)).items()}
    if is_onboarding(path) or "cluster" in parameters:
        assert parameters["cluster"] == "data/clusters/practice.yaml"
    if is_onboarding(path):
        assert ("dry_run" not in parameters) is changes_nothing(notebook)
    assert parameters.get("dry_run", True) is True


@every_notebook
def test_no_logic_in_cells(path: Path) -> None:
    """A cell holds no definition, loop, condition, comprehension or handler, and no magic: what decides is in runbook/."""
    for cell in code_cells(read(path)):
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE), cell.source
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, LOGIC)]
        assert not found, cell.source


@every_notebook
def test_a_notebook_is_short(path: Path) -> None:
    """A page, not a program: few lines of code in all, none too long to read."""
    lines = [line for cell in code_cells(read(path)) for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= CODE_LINES
    assert max(map(len, lines)) <= 130


@every_notebook
def test_imports_stand_together(path: Path) -> None:
    """All imports are in the one cell after the parameters, and come from runbook only; it builds `settings`."""
    _, second, *rest = code_cells(read(path))
    nodes = [node for node in ast.walk(ast.parse(second.source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert nodes
    for node in nodes:
        assert isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "runbook", ast.unparse(node)
    for cell in rest:
        assert not re.search(r"^\s*(import|from)\s", cell.source, re.MULTILINE), cell.source
    if is_onboarding(path):
        call = "Settings.load(cluster)" if changes_nothing(read(path)) else "Settings.load(cluster, dry_run=dry_run)"
        assert f"settings = {call}" in second.source


@every_notebook
def test_every_step_is_introduced(path: Path) -> None:
    """Before each code cell but the parameters, the imports and the last one stands a text that begins with a heading."""
    cells = read(path).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type != "code" or cell.id in ("parameters", "settings", "raise"):
            continue
        assert before.cell_type == "markdown", f"{cell.id} has no introduction"
        assert before.source.startswith("## "), before.source


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if is_onboarding(path)], ids=lambda path: path.stem)
def test_the_last_cell_raises(path: Path) -> None:
    """The report is displayed in one cell, and the last one alone raises: papermill then ends non-zero, the report is kept."""
    notebook = read(path)
    *_, report, last = code_cells(notebook)
    assert last.id == notebook.cells[-1].id
    assert last.source == "report.raise_for_failures();"
    assert report.source.splitlines()[-1] == "report"


@every_notebook
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file in the repository names one that is there."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", cell.source):
                assert (path.parent / target).exists(), target


def test_the_start_page_names_every_notebook() -> None:
    """00-start-here links to each notebook that there is."""
    text = "\n".join(cell.source for cell in read(ROOT / "notebooks" / "00-start-here.ipynb").cells)
    for path in NOTEBOOKS:
        if path.stem != "00-start-here":
            assert f"({path.relative_to(ROOT / 'notebooks')})" in text, path


# -- the pages of the checks ------------------------------------------------------------------------------------------

SECTIONS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
MAKERS = {"passed", "failed", "warned", "skipped"}


def headings() -> dict[str, str]:
    """Each `## id` of troubleshooting.md with the text below it."""
    parts = re.split(r"^## +(\S+)\s*$", TROUBLESHOOTING.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def check_ids() -> set[str]:
    """The ids that the code gives to checks: the first text in a call of Check.passed and its siblings, and `#page` anchors."""
    ids = set()
    for module in (ROOT / "runbook").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            made = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            named = node.func.id if isinstance(node.func, ast.Name) else ""
            if (made in MAKERS or named == "Check") and node.args and isinstance(node.args[0], ast.Constant):
                ids.add(str(node.args[0].value))
            for keyword in node.keywords:
                page = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg == "page" and isinstance(page, str) and page.startswith("#"):
                    ids.add(page[1:])
    return ids


def test_every_check_has_a_page() -> None:
    """Each check and each error names a heading of troubleshooting.md that is there: nobody is sent to a missing page."""
    missing = check_ids() - set(headings())
    assert not missing, f"no heading in {TROUBLESHOOTING.relative_to(ROOT)}: {', '.join(sorted(missing))}"


def test_every_page_has_its_four_parts() -> None:
    """A page says what it means, what it leads to, how to look closer, and what to do."""
    for id, text in headings().items():
        found = re.findall(rf"^(?:\*\*|[*-] \*\*|### +)({'|'.join(SECTIONS)})\b", text, flags=re.MULTILINE)
        assert found == list(SECTIONS), id
