"""Tables in Markdown."""

from tools.documents import markdown_table


def test_columns_of_numbers_are_aligned_right_except_the_first():
    rows = [[1, "1.50", "", "7 of 8"], [2, "-3", "-", "none"]]
    assert markdown_table(["a", "b", "c", "d"], rows).splitlines()[1] == "| --- | ---: | --- | --- |"


def test_a_cell_cannot_break_its_row():
    assert markdown_table(["a"], [["x | y\nz"]]).splitlines()[2] == r"| x \| y z |"
