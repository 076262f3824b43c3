"""The version is written in punctual/__init__.py; whoever reads the template or the changelog finds the same."""

import re

from punctual import __version__
from tools.cloudformation import ROOT


def test_the_template_has_the_version_and_license_of_the_package():
    _, _, metadata = (ROOT / "template.yaml").read_text().partition("AWS::ServerlessRepo::Application:")
    assert re.search(r"^ +SemanticVersion: (\S+)$", metadata, re.MULTILINE)[1] == __version__
    assert re.search(r"^ +SpdxLicenseId: (\S+)$", metadata, re.MULTILINE)[1] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_changelog_begins_with_the_version_or_what_is_unreleased():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ in headings[:2]
    assert headings[0] in ("Unreleased", __version__)
