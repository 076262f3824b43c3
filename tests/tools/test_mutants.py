"""The mutants of template.yaml and of the definitions: each is one change, and the results count as they should."""

import json
from fnmatch import fnmatchcase

import pytest

from tests.cloudformation import ROOT
from tools.mutants import definitions, template
from tools.mutants.__main__ import AREAS, EQUIVALENT, Equivalence, score, table
from tools.mutants.mutations import REMOVED, Mutator, changed
from tools.mutants.runner import Journal, Result, Suites, run


@pytest.fixture(scope="module")
def mutants() -> dict:
    """The mutants of each area, made once."""
    return {"template": [*template.mutants(ROOT)], "definitions": [*definitions.mutants(ROOT)]}


@pytest.mark.parametrize("area", ["template", "definitions"])
def test_each_mutant_differs(mutants, area):
    """No mutant is the original, and none is another one under a second name."""
    ids = [mutant.id for mutant in mutants[area]]
    texts = [(mutant.group, *sorted(mutant.files.items())) for mutant in mutants[area]]
    assert len({*ids}) == len(ids)
    originals = {
        path: json.loads((ROOT / path).read_text()) if path.endswith(".json") else None
        for mutant in mutants[area]
        for path in mutant.files
    }
    for _, *files in texts[:: len(texts) // 100]:
        for path, text in files:
            assert json.loads(text) != originals[path]
    assert len({*map(str, texts)}) == len(texts)


@pytest.mark.parametrize("area", ["template", "definitions"])
def test_each_group_has_suites(mutants, area):
    """Whatever is mutated has tests that should notice."""
    assert {mutant.group for mutant in mutants[area]} == {*AREAS[area].suites.stages}


def test_every_part_of_the_template_is_mutated(mutants):
    """Every resource, parameter, condition and output has mutants."""
    ids = "\n".join(mutant.id for mutant in mutants["template"])
    for section in ("Resources", "Parameters", "Conditions", "Outputs"):
        for name in template_text()[section]:
            assert f"{section}.{name}" in ids


def template_text() -> dict:
    from tests.cloudformation import Template

    return Template().text


def test_every_state_is_mutated(mutants):
    """Every state has mutants."""
    for machine in ("deliver", "sweep"):
        ids = "\n".join(mutant.id for mutant in mutants["definitions"] if mutant.group == machine)
        states = json.loads((ROOT / f"statemachines/{machine}.asl.json").read_text())["States"]
        assert all(f"States.{name}." in ids or states[name]["Type"] == "Succeed" for name in states)


def test_equivalent_mutants_exist(mutants):
    """What is listed as without an effect is a mutant, and has a reason."""
    listed = [Equivalence(**item) for item in json.loads(EQUIVALENT.read_text())]
    for item in listed:
        assert len(item.reason) > 20
        assert any(fnmatchcase(mutant.id, item.mutants) for mutant in mutants[item.area]), item.mutants


# --- The general changes ----------------------------------------------------------------------------------------------


def test_changes_of_a_value():
    """Each key and item is removed, each scalar changed."""
    mutator = Mutator(lambda *_: None, lambda place: place[-1:] == ("Comment",), lambda place: place[-1:] == ("Type",))
    value = {"Type": "A", "List": [1, True], "Comment": "text"}
    found = {(path, what) for path, what, _ in mutator.changes(value)}
    assert found == {
        (("Type",), "A -> AX"),
        (("List",), "removed"),
        (("List", 0), "removed"),
        (("List", 0), "1 -> 2"),
        (("List", 0), "1 -> 0"),
        (("List", 1), "removed"),
        (("List", 1), "-> false"),
    }


def test_a_change_leaves_the_original_alone():
    """A mutant is a copy."""
    value = {"a": [1, 2]}
    assert changed(value, ("a", 0), 5) == {"a": [5, 2]}
    assert changed(value, ("a", 0), REMOVED) == {"a": [2]}
    assert value == {"a": [1, 2]}


# --- The results ------------------------------------------------------------------------------------------------------

RESULTS = [
    Result("a: 1 -> 2", "first", "killed", "test_a"),
    Result("a: 1 -> 0", "first", "timeout", "test_a"),
    Result("b: removed", "first", "survived", ""),
    Result("c: removed", "second", "survived", ""),
]
KNOWN = [Equivalence("template", "b: *", "b has no effect")]


def test_score():
    """What has no effect does not count; what takes too long is killed."""
    assert score(RESULTS, KNOWN) == pytest.approx(2 / 3)
    assert score([], KNOWN) == 1


def test_table():
    """Each group has a row, and all of them together have one."""
    assert table(RESULTS, KNOWN).splitlines()[2:] == [
        "| first | 3 | 2 | 0 | 1 | 100.0% |",
        "| second | 1 | 0 | 1 | 0 | 0.0% |",
        "| all | 4 | 2 | 1 | 1 | 66.7% |",
    ]


def test_journal(tmp_path):
    """Results are kept as they come; the latest of a mutant counts."""
    journal = Journal(tmp_path / "folder/results.jsonl")
    assert journal.read() == []
    for result in (*RESULTS, Result("c: removed", "second", "killed", "test_c")):
        journal.add(result)
    assert [result.outcome for result in journal.read()] == ["killed", "timeout", "survived", "killed"]
    journal.clear()
    assert journal.read() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("area", "first", "second", "stage", "by"),
    [
        (
            "template",
            "Parameters.Dashboard.Default: true -> false",
            "Resources.InputDelayAlarm.Properties.Threshold: *",
            ["tests/template/test_parameters.py", "-k", "test_default_of_a_parameter"],
            "test_default_of_a_parameter[Dashboard]",
        ),
        (
            "definitions",
            "deliver: StartAt: -> LookUpRevision",
            "sweep: *.TimeoutSeconds: *",
            ["tests/workflows/test_definitions.py", "-k", "test_every_state_is_reached"],
            "test_every_state_is_reached[Deliver]",
        ),
    ],
)
def test_a_mutant_is_killed(mutants, area, first, second, stage, by):
    """A run tells what a test notices from what it does not, in a copy: the checkout stays as it is."""
    killed, survived = (
        next(mutant for mutant in mutants[area] if fnmatchcase(mutant.id, pattern)) for pattern in (first, second)
    )
    files = {path: (ROOT / path).read_text() for path in {*killed.files, *survived.files}}
    results: list[Result] = []
    suites = Suites({killed.group: [stage], survived.group: [stage]}, seconds=120)
    run([killed, survived], suites, workers=1, done=results.append)
    assert [result.outcome for result in results] == ["killed", "survived"]
    assert results[0].by.endswith(by)
    assert {path: (ROOT / path).read_text() for path in files} == files
