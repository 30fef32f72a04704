"""Files of texts: what is read, and what is refused in one line."""

import csv
import re
from pathlib import Path

import pytest

from autoenc.data.readers import texts as documents
from autoenc.errors import ConfigError, DataError, UserError


def write(folder: Path, content: str | bytes, name: str = "own.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(kind: type[UserError], *args: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        documents.read(*args, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_is_a_document_and_empty_ones_keep_their_place(tmp_path: Path, end: str) -> None:
    found = documents.read(write(tmp_path, end.join(["one two", "", "drei \u2028 x\x0cy", "  ", "end", ""])))
    assert found.texts == ["one two", "", "drei \u2028 x\x0cy", "  ", "end"]  # only line ends end lines
    assert found.select([0, 4]).texts == ["one two", "end"]
    assert (found.labels, found.column) == (None, None)


def test_columns_of_a_table_are_found_by_name(tmp_path: Path) -> None:
    table = 'label,text,id\nsport,"a, ""b""\nc",1\n\npress,d,2\n'
    path = write(tmp_path, b"\xef\xbb\xbf" + table.encode(), "own.csv")
    found = documents.read(path)
    assert (found.texts, found.labels, found.column) == (['a, "b"\nc', "d"], ["sport", "press"], "text")
    assert documents.read(path, "id", None) == documents.Documents(["1", "2"], None, "id")
    assert documents.read(path, "text", "id").labels == ["1", "2"]
    tabs = write(tmp_path, "body\tlabel\nx y, z\ta\n", "own.tsv")
    assert documents.read(tabs) == documents.Documents(["x y, z"], ["a"], "body")  # the only column beside the label


def test_columns_that_are_not_there_are_refused_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path, "kind,title,body\na,b,c\n", "own.csv")
    there = f"{path} has the columns kind, title, body"
    assert refusal(ConfigError, path).endswith(there)
    assert re.match(rf"column=words: .*{re.escape(there)}", refusal(ConfigError, path, "words"))
    assert re.match(rf"label=sort: .*{re.escape(there)}", refusal(ConfigError, path, "body", "sort"))
    assert refusal(ConfigError, path, "body", "body").startswith("label=body: is the column of the texts")
    lines = write(tmp_path, "kind,title\n")
    for key in ("column", "label"):
        assert refusal(ConfigError, lines, **{key: "kind"}).startswith(f"{key}=kind: {lines} is not a .csv")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("label,text\na,b\nc,d,e\n", "line 3 has 3 columns, the first line has 2"),
        ('label,text\na,"b\nb"\nc\n', "line 4 has 1 columns, the first line has 2"),
        ('label,text\na,b\nc,"d\ne,f\n', "line 3: a quote is never closed"),
        ('label,text\na,"b"c\n', "line 2: ',' expected after '\"'"),
        ("label,text\na,b\n ,c\n,d\n", "line 3 has no label, and 1 more; data.label=null"),
        ("text,text\na,b\n", "has two columns named 'text'"),
        ("\n\n", "is empty"),
    ],
)
def test_tables_that_are_damaged_are_refused_with_the_line(tmp_path: Path, table: str, why: str) -> None:
    path = write(tmp_path, table, "own.csv")
    assert refusal(DataError, path).startswith(f"{path}: {why}")


def test_another_encoding_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path, "eins\nzwei fünf\n".encode("latin-1"))
    assert refusal(DataError, path) == (
        f"{path}: is not utf-8 (line 2, byte 7: 0xfc); set the encoding, such as data.encoding=latin-1"
    )
    assert documents.read(path, encoding="latin-1").texts == ["eins", "zwei fünf"]
    wide = write(tmp_path, "eins\nzwei".encode("utf-16"), "wide.txt")
    assert refusal(DataError, wide).endswith("data.encoding=utf-16")
    assert documents.read(wide, encoding="utf-16").texts == ["eins", "zwei"]
    assert refusal(ConfigError, path, encoding="klingon").startswith("encoding=klingon: ")


def test_files_that_hold_no_text_are_refused(tmp_path: Path) -> None:
    assert refusal(DataError, tmp_path / "no.txt") == f"{tmp_path}/no.txt: no such file"
    assert refusal(DataError, tmp_path) == f"{tmp_path}: is a folder, not a text file"
    assert refusal(DataError, write(tmp_path, "")).endswith("own.txt: is empty")
    assert "line 2 has a NUL byte: the file is binary" in refusal(DataError, write(tmp_path, "a\nb\0c\n"))
    assert "line 2 has a NUL byte" in refusal(DataError, write(tmp_path, "text\nb\0c\n", "own.csv"))


def test_a_huge_field_is_read_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "word " * 100_000
    found = documents.read(write(tmp_path, f"text,label\n{long},a\nshort,b\n", "own.csv"))
    assert (len(found.texts[0]), found.texts[1]) == (500_000, "short")
    refusal(DataError, write(tmp_path, 'text\n"a', "own.csv"))
    assert csv.field_size_limit() == before
