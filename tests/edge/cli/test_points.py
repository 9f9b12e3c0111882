"""Points of a map as typed, and as a person or a spreadsheet writes them into a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.cli.points import MapPoint, grid_points, line_points, place, same_places
from edge.cli.points_file import MAX_BYTES, MAX_NAMED, BadCell, PointsError, parse_points, read_points
from edge.errors import ConfigError
from edge.experiments.trigger_map import MAX_POINTS, TriggerMapPlan

PLAIN = [MapPoint(1.25e-05, 3e-06, "gb", "A 1", 2), MapPoint(-4e-07, 1.23e-05, "", "", 3)]


def complaints(text: str) -> tuple[BadCell, ...]:
    with pytest.raises(PointsError) as found:
        parse_points(text, "map.csv")
    return found.value.bad


def complaint(text: str) -> str:
    with pytest.raises(PointsError) as found:
        parse_points(text, "map.csv")
    assert str(found.value).startswith("map.csv: ")
    return str(found.value)


# ------------------------------------------------------------------------------------------------ what is understood


@pytest.mark.parametrize(
    "text",
    [
        "x_um,y_um,kind,label\n12.5,3,gb,A 1\n-0.4,12.3,,\n",
        "\ufeffX_um;Y_um;Kind;Label\r\n12,5;3,0;GB;A 1\r\n-0,4;12,3;;\r\n;;;\r\n",
        "x_um\ty_um\tkind\tlabel\r12.5\t3\tgb\tA 1\r-0.4\t12.3",
        'x_um, y_um, kind, label\n1.25e1, +3., " GB ", "A 1"\n-.4,123e-1,"",""',
        "y_um,x_um,label,kind\n3,12.5,A 1,Gb\n12.3,-0.4\n",
    ],
    ids=["plain", "European spreadsheet", "tabs", "quoted", "another order"],
)
def test_the_ways_to_write_the_same_points(text: str) -> None:
    assert parse_points(text, "map.csv") == PLAIN


def test_comments_and_empty_lines_are_skipped_and_counted() -> None:
    text = '# of Monday\n\nx_um,y_um\n  # inside\n1,2\n"# quoted, by a spreadsheet",\n,,\n3,4\n'
    assert [(point.x_m, point.line) for point in parse_points(text, "map.csv")] == [(1e-06, 5), (3e-06, 8)]


def test_no_digit_is_lost_or_made() -> None:
    points = parse_points("x_um,y_um\n12.3,0.1\n-0.0,99.999\n", "map.csv")
    assert [(point.x_m, point.y_m) for point in points] == [(1.23e-05, 1e-07), (0.0, 9.9999e-05)]
    assert str(points[1].x_m) == "0.0"


def test_what_is_read_is_what_the_plan_takes() -> None:
    plan = TriggerMapPlan(points=[point.row() for point in PLAIN])
    assert plan.targets_m == ((1.25e-05, 3e-06), (-4e-07, 1.23e-05))


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("header", "row", "column", "value", "expected"),
    [
        ("x_um,y_um", "abc,1", "x_um", "abc", "a number in um"),
        ("x_um,y_um", "1,", "y_um", "", "a number in um"),
        ("x_um,y_um", "1", "y_um", "", "a number in um"),
        ("x_um,y_um", "nan,1", "x_um", "nan", "a number"),
        ("x_um,y_um", "1,inf", "y_um", "inf", "a number"),
        ("x_um,y_um", "1_0,1", "x_um", "1_0", "a number"),
        ("x_um,y_um", "١,1", "x_um", "١", "a number"),
        ("x_um,y_um", "1 000,1", "x_um", "1 000", "a number"),
        ("x_um,y_um", '"1,5",1', "x_um", "1,5", "a number in um, as 12.5"),
        ("x_um;y_um", "1.234,5;1", "x_um", "1.234,5", "a number in um, as 12.5 or 12,5"),
        ("x_um,y_um", "1e7,1", "x_um", "1e7", "-1e+06 to 1e+06"),
        ("x_um,y_um", "1,2,5", "column 3", "5", "2 columns as in the header; a decimal comma needs semicolons"),
        ("x_um;y_um", "1;2;5", "column 3", "5", "2 columns as in the header"),
        ("x_um,y_um,kind", "1,2,bg", "kind", "bg", "gb, gi, hl or nothing"),
        ("x_um,y_um,label", "1,2," + "a" * 65, "label", "a" * 65, "up to 64 printable"),
        ("x_um,y_um,label", "1,2,a\x07b", "label", "a\x07b", "printable"),
        ("x_um,y_um", '"1,2', "whole line", '"1,2', "quotation marks in pairs"),
        ("x_um,y_um,,", "1,2,,5", "a column without a name", "5", "nothing, or a name"),
    ],
)
def test_a_bad_cell_is_named(header: str, row: str, column: str, value: str, expected: str) -> None:
    (bad,) = complaints(f"# first\n{header}\n3;4\n{row}\n" if ";" in header else f"# first\n{header}\n3,4\n{row}\n")
    assert (bad.line, bad.column, bad.value) == (4, column, value)
    assert expected in bad.expected


def test_a_point_and_a_comma_in_one_file_are_two_meanings() -> None:
    (bad,) = complaints("x_um;y_um\n1;2\n1,5;2\n1.234;7\n")
    assert (bad.line, bad.value) == (4, "1.234")
    assert "line 3" in bad.expected
    assert "thousands" in bad.expected


def test_all_that_is_bad_is_counted_and_the_first_are_listed() -> None:
    said = complaint("x_um,y_um,kind\n" + "a,b,c\n" * 4 + "1,2,gb\n").splitlines()
    assert said[0] == "map.csv: 4 of 5 points cannot be read; nothing was moved"
    assert said[1] == "  line 2, x_um: value 'a': expected a number in um, as 12.5"
    assert len(said) == 1 + MAX_NAMED + 1
    assert said[-1] == "  and 2 more"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no points"),
        ("# nothing else\n\n;;;\n", "no points"),
        ("x_um,y_um\n", "a header and no points"),
        ("1,2\n3,4\n", "column '1': expected a header"),
        ("x,y\n1,2\n", "positions are in micrometres"),
        ("x_um,y_nm\n1,2\n", "column 'y_nm': expected a header of x_um and y_um, and if you like kind and label; pos"),
        ("x_um,y_um,knd\n1,2,gb\n", "column 'knd'"),
        ("x_um,kind\n1,gb\n", "no column y_um"),
        ("x_um,y_um,x_um\n1,2,3\n", "column x_um is there twice"),
        ("label,x_um,y_um\n#1,2,3\n", "column 'label' comes first"),
        ("x_um,y_um\n" + "1,2\n" * (MAX_POINTS + 1), "4097 points: expected at most 4096"),
    ],
)
def test_a_file_that_is_no_file_of_points(text: str, says: str) -> None:
    assert says in complaint(text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("x_um,y_um\n1,2\n".encode("utf-16"), "UTF-16 text; save it as CSV, UTF-8"),
        ("# µm\nx_um,y_um\n".encode("cp1252"), "line 1: not UTF-8 text (byte 2)"),
        (b"#" * (MAX_BYTES + 1), "more than 4 MB"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "map.csv"
    file.write_bytes(data)
    with pytest.raises(PointsError) as found:
        read_points(file)
    assert str(found.value).startswith(f"{file}: ")
    assert says in str(found.value)


def test_no_file_and_no_file_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(PointsError, match=r"absent\.csv: No such file"):
        read_points(tmp_path / "absent.csv")
    with pytest.raises(PointsError, match="Is a directory"):
        read_points(tmp_path)


CELLS = st.sampled_from(
    ["x_um", "y_um", "kind", "label", "gb", "", '"', "#", ",", ";", "\t", "1", "-2.5", "3,5", "1e999", "\n", "\r", "\0"]
)


def points_or_our_error(read: Callable[[], list[MapPoint]]) -> None:
    try:
        points = read()
    except PointsError:
        return
    TriggerMapPlan(points=[point.row() for point in points])


@given(st.one_of(st.text(max_size=60), st.lists(CELLS, max_size=30).map("".join)))
@example('x_um,y_um\n1,"2')
@example("x_um,y_um\n1,2\x85")
@example("x_um;y_um;;\n1;2")
def test_any_text_gives_points_or_our_error(text: str) -> None:
    points_or_our_error(lambda: parse_points(text, "map.csv"))


@given(st.text(alphabet='0123456789.,-+eE; \t\nxyumkindlabg_"', max_size=40))
def test_any_table_gives_points_or_our_error(rows: str) -> None:
    for header in ("x_um,y_um,kind\n", "x_um;y_um;label\n"):
        points_or_our_error(partial(parse_points, header + rows, "map.csv"))


@given(st.binary(max_size=60))
def test_any_bytes_give_points_or_our_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(data)
    points_or_our_error(lambda: read_points(file))


# --------------------------------------------------------------------------------------------------------- as typed


def test_a_line_has_both_ends_and_equal_steps() -> None:
    points = line_points("40,50,60,50,11", "gi")
    assert [round(point.x_m * 1e6, 9) for point in points] == [40 + 2 * i for i in range(11)]
    assert {(point.y_m, point.kind) for point in points} == {(5e-05, "gi")}
    assert [point.x_m for point in line_points("0,0,1,0,4")] == [0.0, 3.333333333e-07, 6.666666667e-07, 1e-06]
    assert len(line_points("5,5,5,5,1")) == 1


def test_a_grid_goes_along_x_first() -> None:
    places = [(point.x_m, point.y_m) for point in grid_points("1,2,3,4,3,2")]
    assert places == [(1e-6, 2e-6), (2e-6, 2e-6), (3e-6, 2e-6), (1e-6, 4e-6), (2e-6, 4e-6), (3e-6, 4e-6)]
    assert len(grid_points("1,2,3,2,64,1")) == 64


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "X0,Y0,X1,Y1,N with positions in um, as 40,50,60,50,11"),
        ("1,2,3,4", "X0,Y0,X1,Y1,N"),
        ("1,2,3,4,5,6", "X0,Y0,X1,Y1,N"),
        ("1,2,3,nan,5", "X0,Y0,X1,Y1,N"),
        ("1,2,3,4,0", "1 to 4096 points"),
        ("1,2,3,4,2.5", "1 to 4096 points"),
        ("1,2,3,4,1e999", "1 to 4096 points"),
        ("1,2,3,4,1", "at least 2 points between two ends"),
        ("1,2,2e6,4,5", "positions of -1e+06 to 1e+06 um"),
    ],
)
def test_a_line_that_is_none(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^--line: value") as found:
        line_points(text)
    assert says in str(found.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,3,4,5", "X0,Y0,X1,Y1,NX,NY"),
        ("1,2,3,4,65,64", "at most 4096 points, these are 4160"),
        ("1,2,3,4,1,2", "1 point between equal ends in X"),
        ("1,2,3,2,2,2", "1 point between equal ends in Y"),
    ],
)
def test_a_grid_that_is_none(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^--grid: value") as found:
        grid_points(text)
    assert says in str(found.value)


def test_a_kind_that_is_none() -> None:
    with pytest.raises(ConfigError, match="--kind: value 'bg': expected gb, gi or hl"):
        line_points("1,2,3,4,5", "bg")


def test_a_place() -> None:
    assert place("--at", " 12.3,-4 ") == (1.23e-05, -4e-06)
    with pytest.raises(ConfigError, match="--at: value '1': expected X,Y"):
        place("--at", "1")


def test_points_at_the_same_place_are_found() -> None:
    points = [MapPoint(x, 0.0) for x in (1e-6, 2e-6, 1e-6, 3e-6, 1e-6)]
    assert same_places(points) == [(0, 2), (0, 4)]
    assert same_places(grid_points("1,2,3,4,3,3")) == []
