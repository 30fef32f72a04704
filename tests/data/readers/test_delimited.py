"""Delimited files as they come: quotes, names of columns, lines to skip, encodings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoenc.data.readers.delimited import unique
from autoenc.data.readers.tables import Source
from autoenc.errors import DataError


def cells(folder: Path, content: str | bytes, **options: Any) -> dict[str, list[Any]]:
    """The columns of a file with this content."""
    path = folder / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    frame = Source(**{"header": None, **options}).read(path)
    frame = frame.astype("object").where(frame.notna(), None)
    return {name: frame[name].tolist() for name in frame}


def test_quotes(tmp_path: Path) -> None:
    assert cells(tmp_path, 'a,b\n1, "x, y"\n"2" ,"z" \n') == {"a": ["1", "2"], "b": ["x, y", "z"]}
    assert cells(tmp_path, 'a,b\n1,5" pipe\n2,"6"" pipe"\n')["b"] == ['5" pipe', '6" pipe']
    assert cells(tmp_path, 'a,b\n1,"5\\" pipe"\n', quoting="backslash")["b"] == ['5" pipe']
    assert cells(tmp_path, 'a,b\n1,"x\n2,y\n', quoting="none")["b"] == ['"x', "y"]
    assert len(cells(tmp_path, "a,b\n1," + "x" * 200_000 + "\n")["b"][0]) == 200_000


def test_text_with_line_breaks_is_one_cell(tmp_path: Path) -> None:
    content = 'id,text,n\n1,"Dear all,\nhello, you, there\nbye",2\n3,"one\n\ntwo, three",4\n'
    assert cells(tmp_path, content)["n"] == ["2", "4"]
    assert len(cells(tmp_path, 'text,n\n"a\nb, c\nd",1\n')["n"]) == 1


@pytest.mark.parametrize("rows", [2, 5])
def test_a_stray_quote_takes_no_rows(tmp_path: Path, rows: int) -> None:
    body = [f"{i},{i % 7},x" for i in range(20)]
    body[3], body[3 + rows] = '3,"3,x', f'{3 + rows},{3 + rows}",x'
    text = "\n".join(["a,b,c", *body]) + "\n"
    with pytest.raises(DataError, match=rf"a quote in line 5 is closed in line {5 + rows} .*data\.quoting=none"):
        cells(tmp_path, text)
    assert len(cells(tmp_path, text, quoting="none")["a"]) == 20


def test_names_of_columns(tmp_path: Path) -> None:
    assert list(cells(tmp_path, "a,b,a,a.1\n1,2,3,4\n")) == ["a", "b", "a.2", "a.1"]
    assert cells(tmp_path, "a,,\n1,2,\n") == {"a": ["1"], "column_1": ["2"], "column_2": [None]}
    assert list(cells(tmp_path, ",0,1,2\n0,5,6,7\n")) == ["column_0", "0", "1", "2"]
    assert list(cells(tmp_path, "country,2019,2020\nFrance,5,6\n")) == ["country", "2019", "2020"]
    assert list(cells(tmp_path, "3,7\n0.5,1.5\n")) == ["3", "7"]
    assert cells(tmp_path, "a,b\n1,2,\n") == {"a": ["1"], "b": ["2"]}  # separators at the ends of the rows only
    for data in ("1,2\n3,4\n", "0,1\n1,0\n", "5,a\n6,b\n", "1.5,2\n1,x\n"):
        with pytest.raises(DataError, match=r"data\.header=false for data, data\.header=true"):
            cells(tmp_path, data)
        assert len(cells(tmp_path, data, header=True)) == 2
    notes: list[str] = []
    next(Source().chunks(tmp_path / "a.csv", notes))
    assert notes == []
    (tmp_path / "a.csv").write_text("a,a,\n1,2,3\n")
    next(Source().chunks(tmp_path / "a.csv", notes))
    assert "2: a.1, 3: column_2" in notes[0]
    assert unique(["a", "a", "a"]) == ["a", "a.1", "a.2"]


def test_lines_to_skip_and_separators(tmp_path: Path) -> None:
    wanted = {"a": ["1", "3"], "b": ["2", "4"]}
    assert cells(tmp_path, "report\nof May\na,b\n1,2\n\n3,4\n", skip=2) == wanted
    assert cells(tmp_path, "# by me\na,b\n1,2\n# half\n3,4\n", comment="#") == wanted
    for separator in ("whitespace", r"\s+"):
        assert cells(tmp_path, "a   b\n 1 2\n3\t  4 \n", separator=separator) == wanted
    assert cells(tmp_path, "a\tb\n1\t2\n3\t4\n", separator=r"\t") == wanted


def test_the_line_by_which_excel_recognizes_the_separator(tmp_path: Path) -> None:
    assert cells(tmp_path, "sep=;\na;b\n1;2\n", separator=";") == {"a": ["1"], "b": ["2"]}


def test_a_title_above_the_header(tmp_path: Path) -> None:
    for title in ("Log of May", "Log of May,,"):
        with pytest.raises(
            DataError, match=r"line 1 \('Log of May'\) has fewer names than the 3 columns.*data\.skip=2"
        ):
            cells(tmp_path, f"{title}\n\nt,a,b\n1,2,3\n4,5,6\n")
    assert cells(tmp_path, "v1,v2,,,\nham,x,,,\nspam,y,,,z\nham,u,,,\n")["v1"] == ["ham", "spam", "ham"]
    assert cells(tmp_path, '"a","b"\n"x",1,2\n"y",3,4\n') == {"column_0": ["x", "y"], "a": ["1", "3"], "b": ["2", "4"]}


def test_rows_of_several_lines_are_noted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a\nx\n"y\nz\nu"\nv\n')
    notes: list[str] = []
    list(Source().chunks(tmp_path / "a.csv", notes))
    assert len(notes) == 1
    assert "1 row of several lines, such as 3 to 5; data.quoting=none" in notes[0]


@pytest.mark.parametrize("encoding", ["utf8", "UTF-8", "utf_8", "UTF8-BOM", "utf-8-sig"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    for written in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert cells(tmp_path, "a,ü\n1,2\n".encode(written), encoding=encoding) == {"a": ["1"], "ü": ["2"]}


def test_rows_are_numbered_from_1_and_markers_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,NA\n\n-200.0, x \n,\n")
    frame = Source(missing=("-200",)).read(path)
    assert frame.index.tolist() == [1, 2, 3]
    assert np.array_equal(frame.isna(), [[False, True], [True, False], [True, True]])
    assert frame["b"][2] == "x"
