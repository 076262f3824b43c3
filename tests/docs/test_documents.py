"""Documents as such: links and anchors, length, and that the code, files, and commands in them exist."""

import re
from urllib.parse import unquote

import pytest

from punctual.cli import punctual
from tests.docs.reading import Document, document, documents
from tools.cloudformation import ROOT

DOCUMENTS = documents()
README_WORDS, DOCUMENT_WORDS = 1_300, 1_200
# Where names that documents mention have to exist.
SOURCES = [
    path
    for pattern in ("*.yaml", "Makefile", "pyproject.toml", "functions/**/*.py", "punctual/*.py", "tools/**/*.py")
    for path in ROOT.glob(pattern)
] + [*ROOT.glob("statemachines/*.json"), *ROOT.glob("examples/**/*.*"), *ROOT.glob("tests/**/*.py")]
SOURCE_TEXT = "\n".join(path.read_text() for path in SOURCES if path.suffix not in (".pyc", ".md"))
MAKEFILE = (ROOT / "Makefile").read_text()


# --- Links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_relative_link_leads_to_a_file_and_a_heading(doc: Document):
    broken = [f"{link}: {problem}" for link in doc.links if (problem := _problem_with(doc, link))]
    assert not broken, f"{doc} has broken links. Correct the link, or the heading that it names:\n" + "\n".join(broken)


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_reference_link_is_defined(doc: Document):
    """A reference that is not defined is shown with its brackets."""
    undefined = re.findall(r"\]\[[\w -]*\]", re.sub(r"```.*?```|`[^`]*`", "", doc.text, flags=re.DOTALL))
    defined = re.findall(r"^\[([^\]]+)\]: ", doc.text, flags=re.MULTILINE)
    missing = [name for name in undefined if name.strip("[]") not in defined]
    assert not missing, f"{doc} uses {missing} without a line such as `[name]: https://...`. Add it, or link inline."


def test_every_document_named_in_the_code_exists():
    """Alarms, parameters, comments, and printed lines send readers to documents, and to sections of them."""
    missing = []
    # The texts of the template are folded: a name may be followed by a line break.
    text = re.sub(r"\s+", " ", SOURCE_TEXT)
    for name, anchor, title in re.findall(r"\b(docs/[\w-]+\.md)(#[\w-]+)?(?:, ([A-Z][a-z]+(?: [a-z]+)*)\))?", text):
        doc = document(name)
        if not doc.path.exists():
            missing.append(name)
        elif anchor and anchor[1:] not in doc.anchors:
            missing.append(f"{name}{anchor}")
        elif title and title not in doc.headings:
            missing.append(f"{name}, {title}")
    assert not missing, f"The code or the template names documents or sections that do not exist: {missing}"


def _problem_with(doc: Document, link: str) -> str | None:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    path, _, anchor = unquote(link).partition("#")
    target = doc.path if not path else (doc.path.parent / path).resolve()
    if not target.is_relative_to(ROOT):
        return "leads out of the repository"
    if not target.exists():
        return "no such file"
    if anchor and target.suffix != ".md":
        return "only Markdown files have anchors"
    if anchor and anchor not in Document(target).anchors:
        return f"no such heading in {target.relative_to(ROOT)}"
    return None


# --- Length -----------------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    """The README's words include its tables: they are what a newcomer has to get through."""
    words = document("README.md").words(with_tables=True)
    assert words <= README_WORDS, (
        f"README.md has {words} words (tables included, code blocks not); at most {README_WORDS} are allowed. Move "
        "depth to a file in docs/ and link to it."
    )


@pytest.mark.parametrize("doc", [doc for doc in DOCUMENTS if doc.path.stem not in ("README", "CHANGELOG")], ids=str)
def test_a_document_is_short(doc: Document):
    """Prose is headings, paragraphs, and lists. Tables, code blocks, and parts that tools write are free."""
    words = doc.words(with_tables=False)
    assert words <= DOCUMENT_WORDS, (
        f"{doc} has {words} words of prose; at most {DOCUMENT_WORDS} are allowed. Shorten it, turn enumerations into "
        "tables, or move a subject to a document of its own."
    )


@pytest.mark.parametrize("doc", [doc for doc in DOCUMENTS if doc.path.parent.name == "docs"], ids=str)
def test_a_document_starts_with_what_the_reader_will_know(doc: Document):
    first = doc.text.split("\n\n")[1]
    assert re.match("After (reading )?this", first), (
        f"{doc} has to begin, after its title, with a paragraph that says what the reader will know."
    )


# --- Code, files, and commands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_a_quoted_example_is_the_file(doc: Document):
    """A code block whose first line is `# examples/<file>` is that file, or some successive lines of it."""
    for block in doc.code_blocks:
        if not (named := re.match(r"# (examples/\S+)\n", block.text)):
            continue
        path = ROOT / named[1]
        assert path.exists(), f"{doc}, line {block.line}: {named[1]} does not exist. Quote another file, or remove it."
        quoted = block.text.strip().removeprefix(f"# {named[1]}").strip()
        assert f"\n{quoted}\n" in f"\n{path.read_text()}\n", (
            f"{doc}, line {block.line}: this is not what {named[1]} says. Copy the file, or successive lines of it, "
            "into the block again, below its first line."
        )


def _commands(doc: Document) -> list[str]:
    """The lines of shell blocks without prompt, output, and comment, and what is set as code within a line.

    A comment begins with `#` or, where nothing is to be copied, after three spaces."""
    lines = []
    for block in doc.code_blocks:
        if block.language in ("sh", "bash", "console", ""):
            folded = re.sub(r"\\\n\s*", " ", block.text).splitlines()
            shown = [line[2:] for line in folded if line.startswith("$ ")]
            lines += shown or folded
    return [re.sub(r"\s#.*|(?<=\S)\s{3,}\S.*", "", line) for line in [*lines, *doc.inline_codes]]


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_make_target_exists(doc: Document):
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    for command in _commands(doc):
        for arguments in re.findall(r"(?:^|&& |; )make((?: [\w=./]+)+)", command):
            for word in arguments.split():
                name, is_variable, _ = word.partition("=")
                if is_variable:
                    assert re.search(rf"[(,]{name}\)", MAKEFILE), f"{doc}: `{command}`: the Makefile has no {name}."
                else:
                    assert name in targets, f"{doc}: `{command}`: the Makefile has no target {name}."


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_tool_and_its_options_exist(doc: Document):
    """Of `python -m tools.x word --option` the module has to exist, and name the word and the option."""
    for command in _commands(doc):
        for module, arguments in re.findall(r"python[\d.]* -m (tools[\w.]*)([^|;&>]*)", command):
            path = ROOT / module.replace(".", "/")
            files = [path.with_suffix(".py")] if not path.is_dir() else sorted(path.glob("*.py"))
            can_run = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
            assert can_run, f"{doc}: `{command}`: no module {module} can be run. Correct its name."
            source = "".join(file.read_text() for file in files)
            words = arguments.split()
            for word in words:
                option = word.split("=")[0]
                if option.startswith("--") and option != "--help":
                    assert f'"{option}"' in source, f"{doc}: `{command}`: {module} has no option {option}."
            if words and re.fullmatch(r"[a-z]+", words[0]):
                is_command = re.search(rf'"{words[0]}"|^def {words[0]}\(', source, re.MULTILINE)
                assert is_command, f"{doc}: `{command}`: {module} has no command {words[0]}."


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_punctual_command_exists(doc: Document):
    for command in _commands(doc):
        called = re.search(
            r"(?:^|python[\d.]* -m |&& |bin/)punctual((?: --(?:stack|region) \S+| --json)*) ([a-z]+)\b", command
        )
        if called:
            assert called[2] in punctual.commands, (
                f"{doc}: `{command}`: punctual has no command {called[2]}, only {', '.join(punctual.commands)}."
            )


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_file_exists(doc: Document):
    """Code within a line that looks like a path, or like the name of a Python file, names a file of the repository."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    names = {path.name for path in SOURCES}
    for code in doc.inline_codes:
        if re.fullmatch(r"[\w.*/-]+/[\w.*/-]*", code) and code.split("/")[0] in folders:
            assert any(ROOT.glob(code.rstrip("/"))), (
                f"{doc}: `{code}` does not exist. Name the file that does its work now."
            )
        elif re.fullmatch(r"\w+\.(py|asl\.json)", code):
            assert code in names, (
                f"{doc}: no file of the repository is called `{code}`. Name the one that does its work now."
            )


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_constant_and_setting_exists(doc: Document):
    """A name in capitals with an underscore is a constant of the code or a setting of the Makefile."""
    for code in doc.inline_codes:
        for name in re.findall(r"(?<![\w$-])[A-Z]+(?:_[A-Z]+)+(?![\w-])", code):
            assert re.search(rf"\b{name}\b", SOURCE_TEXT) or name.startswith("AWS_"), (
                f"{doc}: `{name}` is in no source file. Use its present name."
            )
