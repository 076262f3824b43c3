"""Tables in Markdown, and the marked parts of documents."""

import pytest

from tools.documents import MarkerError, markdown_table, replace_marked, with_marked

DOCUMENT = (
    "Before\n<!-- one: begin -->\nold\n<!-- one: end -->\nBetween\n<!-- two: begin -->\n<!-- two: end -->\nAfter\n"
)


def test_a_table_has_a_line_for_the_heads_and_one_for_each_row():
    assert markdown_table(["name", "unit"], [["lateness", "ms"], ["rate", "1/s"]]) == (
        "| name | unit |\n| --- | --- |\n| lateness | ms |\n| rate | 1/s |"
    )


def test_columns_of_numbers_are_aligned_right_except_the_first():
    rows = [[1, "1.50", "", "7 of 8"], [2, "-3", "-", "none"]]
    assert markdown_table(["a", "b", "c", "d"], rows).splitlines()[1] == "| --- | ---: | --- | --- |"


def test_a_table_without_rows_has_its_heads():
    assert markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"


def test_a_cell_cannot_break_its_row():
    assert markdown_table(["a"], [["x | y\nz"]]).splitlines()[2] == r"| x \| y z |"


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="A row has 1 cells, but the table has 2 columns"):
        markdown_table(["a", "b"], [["x"]])


def test_only_the_text_between_the_markers_of_that_name_is_replaced():
    assert with_marked(DOCUMENT, "one", "new\n") == DOCUMENT.replace("\nold\n", "\n\nnew\n\n")


def test_replacing_twice_is_the_same_as_replacing_once():
    once = with_marked(DOCUMENT, "one", "new")
    assert with_marked(once, "one", "new") == once


def test_backslashes_are_inserted_as_they_are():
    assert r"\1 \g<0>" in with_marked(DOCUMENT, "two", r"\1 \g<0>")


def test_a_file_is_replaced_in_place(tmp_path):
    path = tmp_path / "document.md"
    path.write_text(DOCUMENT, encoding="utf-8")
    replace_marked(path, "two", "später")
    assert path.read_text(encoding="utf-8") == with_marked(DOCUMENT, "two", "später")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected the marker <!-- one: begin --> once, found it 0 times"),
        ("<!-- one: begin -->", "expected the marker <!-- one: end --> once, found it 0 times"),
        (DOCUMENT + "<!-- one: begin -->", "expected the marker <!-- one: begin --> once, found it 2 times"),
        ("<!-- one: end --><!-- one: begin -->", "<!-- one: end --> is before <!-- one: begin -->"),
    ],
    ids=["missing", "unclosed", "repeated", "reversed"],
)
def test_a_document_with_wrong_markers_is_named_and_left_alone(tmp_path, text, problem):
    path = tmp_path / "document.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MarkerError) as error:
        replace_marked(path, "one", "new")
    assert str(error.value) == f"{path}: {problem}"
    assert path.read_text(encoding="utf-8") == text
