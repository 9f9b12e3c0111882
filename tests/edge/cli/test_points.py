"""Points of a map as a person gives them: what is understood; whatever is wrong is named before anything moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cli.points import MapPoint, grid_points, line_points, place, same_places
from edge.cli.points_file import MAX_NAMED, PointsError, parse_points, read_points
from edge.cli.run_map import at_lines, chosen_points, name_of, parse_sweep, rows_of
from edge.errors import ConfigError, PlanRefusedError
from edge.experiments.trigger_map import MAX_POINTS, TriggerMapPlan


def parsed(text: str) -> list[MapPoint]:
    return parse_points(text, "map.csv")


def wrong(text: str) -> PointsError:
    with pytest.raises(PointsError) as caught:
        parsed(text)
    assert str(caught.value).startswith("map.csv: ")
    return caught.value


GOOD = "x_um,y_um,kind,label\n12.5,7,gb,B1\n-3,0.25,gi,\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        "# from the image of Monday\n\n" + GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", ";").replace(".", ","),
        GOOD.upper().replace("B1", "B1"),
    ],
)
def test_what_spreadsheets_write_is_understood(text: str) -> None:
    first, second = parsed(text)
    assert (first.x_m, first.y_m, first.kind, first.label) == (12.5e-6, 7e-6, "gb", "B1")
    assert (second.x_m, second.y_m, second.kind, second.label) == (-3e-6, 0.25e-6, "gi", "")


def test_kind_and_label_may_be_absent() -> None:
    assert [point.row() for point in parsed("y_um,x_um\n1,2\n")] == [[2e-6, 1e-6, "", ""]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no points"),
        ("x_um,y_um\n", "a header and no points"),
        ("x,y\n1,2\n", "micrometres"),
        ("x_um,kind\n1,gb\n", "no column y_um"),
        ("x_um,y_um,x_um\n1,2,3\n", "there twice"),
        ("x_um,y_um\n1,two\n", "line 2, y_um: value 'two': expected a number in um"),
        ("x_um,y_um\n1,2,3\n", "2 columns as in the header"),
        ("x_um,y_um,kind\n1,2,boundary\n", "line 2, kind: value 'boundary': expected gb, gi, hl or nothing"),
        ("x_um,y_um\nnan,2\n", "expected a number"),
        ("x_um,y_um\n1e9,2\n", "expected -1e+06 to 1e+06"),
        # One of the two marks may stand for thousands: 1.234 or 1234 um apart is a crash of the tip.
        ("x_um;y_um\n1,5;2\n1.234;2\n", "may stand for thousands"),
        ('x_um,y_um,label\n1,2,"open\n', "quotation marks in pairs"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    assert said in str(wrong(text))


def test_every_bad_row_is_named_up_to_ten_and_the_rest_counted() -> None:
    error = wrong("x_um,y_um\n" + "".join(f"{n},bad\n" for n in range(14)) + "1,2\n")
    assert "14 of 15 points cannot be read; nothing was moved" in str(error)
    assert str(error).count("line ") == MAX_NAMED
    assert "and 4 more" in str(error)
    assert len(error.bad) == 14


@given(st.text(max_size=300))
def test_any_text_gives_points_or_our_error(text: str) -> None:
    for candidate in (text, "x_um,y_um,kind,label\n" + text, "x_um;y_um\n" + text):
        try:
            points = parsed(candidate)
        except PointsError:
            continue
        # Whatever passes here, the plan takes.
        TriggerMapPlan(points=[point.row() for point in points])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(PointsError, match="No such file"):
        read_points(tmp_path / "absent.csv")
    path = tmp_path / "utf16.csv"
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(PointsError, match="UTF-16 text; save it as CSV, UTF-8"):
        read_points(path)
    path.write_bytes(b"x_um,y_um\n1,2\n\xff\xfe\n")
    with pytest.raises(PointsError, match=r"line 3: not UTF-8"):
        read_points(path)


def test_a_line_has_its_ends_and_a_grid_its_edges() -> None:
    assert [point.x_m for point in line_points("0,0,10,0,3", "gb")] == [0.0, 5e-6, 10e-6]
    grid = grid_points("0,0,2,1,3,2")
    assert [(point.x_m, point.y_m) for point in grid][:4] == [(0.0, 0.0), (1e-6, 0.0), (2e-6, 0.0), (0.0, 1e-6)]
    assert len(grid) == 6
    assert place("--at", "12.3, 4") == (1.23e-5, 4e-6)


@pytest.mark.parametrize(
    "text", ["", "1,2,3,4", "1,2,3,4,0", "1,2,3,4,1.5", "1,2,3,4,1", "a,2,3,4,5", "1,2,3,4,99999", "nan,2,3,4,5"]
)
def test_a_line_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--line"):
        line_points(text)


@pytest.mark.parametrize("text", ["0,0,1,1,1,2", "0,0,0,1,2,2", f"0,0,1,1,{MAX_POINTS},2", "0,0,1,1,2"])
def test_a_grid_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--grid"):
        grid_points(text)


def test_exactly_one_way_to_say_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no points: expected one of --points"):
        chosen_points(None, None, None, "")
    with pytest.raises(ConfigError, match="exclude each other"):
        chosen_points(None, "0,0,1,0,2", "0,0,1,1,2,2", "")
    path = tmp_path / "map.csv"
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match="--kind"):
        chosen_points(path, None, None, "gb")
    assert len(chosen_points(path, None, None, "")) == 2
    with pytest.raises(ConfigError, match="--kind: value 'xx'"):
        chosen_points(None, "0,0,1,0,2", None, "xx")


def test_a_sweep_of_a_kind() -> None:
    assert parse_sweep("gi:-10:1") == ("gi", [-10.0, 1.0])
    for text in ("gi", "gi:1", "xx:1:2", "gb:a:1", "gb:nan:1", "gb:1:inf", ":1:2"):
        with pytest.raises(ConfigError, match="--sweep"):
            parse_sweep(text)


def test_points_at_the_same_place_are_found_and_lines_are_named() -> None:
    points = parsed("x_um,y_um\n1,2\n3,4\n1,2\n")
    assert same_places(points) == [(0, 2)]
    assert name_of(points, 2) == "line 4"
    refused = at_lines(PlanRefusedError("point 2: x 3 um is outside", reason="outside_travel"), points)
    assert str(refused) == "point 2 (line 3): x 3 um is outside"
    assert refused.reason == "outside_travel"


def test_what_does_not_fit_into_one_message_is_said() -> None:
    with pytest.raises(ConfigError, match="can be sent at once"):
        rows_of([MapPoint(1e-6, 1e-6, "gb", "x" * 64)] * MAX_POINTS)
