"""Files of texts: what is read, and what is refused in one line."""

import gzip
import re
from pathlib import Path

import pandas as pd
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
        ('label,text\na,"b\nb"\nc\n', "line 4 has 1 column, the first line has 2"),
        ('label,text\na,b\nc,"d\ne,f\n', "line 3: a quote is never closed"),
        ('label,text\na,"b"c\n', "line 2: ',' expected after '\"'"),
        ('text\n"a" b\n', "line 2: ',' expected after '\"'; data.quoting=none"),
        (
            'label,text\nb,x\na,"5 inch\nb,fine\na,size 5"\n',
            "line 3: a quote takes 2 more rows into one cell",
        ),
        (
            'text,label\nx,b\n"5 inch,a\nfine,b\nsize 5",a\n',
            "line 3: a quote takes 2 more rows into one cell",
        ),
        (
            'id,text\n1,"5 inch\n2,fine\n3,size 5"\n',
            "line 2: a quote takes 2 more rows into one cell",
        ),
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
    assert refusal(DataError, path, encoding="UTF_8").endswith("data.encoding=latin-1")
    assert refusal(ConfigError, path, encoding="klingon").startswith("encoding=klingon: ")


def test_files_that_hold_no_text_are_refused(tmp_path: Path) -> None:
    assert refusal(DataError, tmp_path / "no.txt") == f"{tmp_path}/no.txt: no such file"
    assert refusal(DataError, tmp_path) == f"{tmp_path}: is a folder without .txt or .txt.gz files"
    assert refusal(DataError, write(tmp_path, "")).endswith("own.txt: is empty")
    assert "line 2 has a NUL byte: the file is binary" in refusal(DataError, write(tmp_path, "a\nb\0c\n"))
    assert "line 2 has a NUL byte" in refusal(DataError, write(tmp_path, "text\nb\0c\n", "own.csv"))


def test_a_huge_field_is_read(tmp_path: Path) -> None:
    found = documents.read(write(tmp_path, f"text,label\n{'word ' * 100_000},a\nshort,b\n", "own.csv"))
    assert (len(found.texts[0]), found.texts[1]) == (500_000, "short")


@pytest.mark.parametrize("name", ["own.txt", "own.csv", "own.csv.gz", "own.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf8", "UTF-8", "utf_8"])
def test_a_byte_order_mark_decides_between_utf_8_and_utf_16(tmp_path: Path, name: str, encoding: str) -> None:
    content = {"own.txt": "h\u00e9\nzwei\n", "own.jsonl": '{"text": "h\u00e9"}\n{"text": "zwei"}\n'}.get(
        name, "text\nh\u00e9\nzwei\n"
    )
    for written in ("utf-8", "utf-8-sig", "utf-16"):
        data = content.encode(written)
        path = write(tmp_path, gzip.compress(data) if name.endswith(".gz") else data, name)
        assert documents.read(path, encoding=encoding).texts == ["h\u00e9", "zwei"]


def test_quotes_are_read_as_the_option_says(tmp_path: Path) -> None:
    stray = write(tmp_path, 'label,text\na,"5 inch\nb,6"\n', "own.csv")
    assert documents.read(stray, quoting="none").texts == ['"5 inch', '6"']
    escaped = write(tmp_path, 'label,text\na,"say \\"yes\\", now"\n', "own.csv")
    assert documents.read(escaped, quoting="backslash").texts == ['say "yes", now']
    blanks = write(tmp_path, 'label,text\na, "b, c" \n', "own.csv")
    assert documents.read(blanks).texts == ["b, c"]
    long = write(tmp_path, 'label,text\na,"one\ntwo, three\nb, four"\nb,five\n', "own.csv")
    assert documents.read(long).texts == ["one\ntwo, three\nb, four", "five"]  # lines of a text are no rows
    assert refusal(ConfigError, stray, quoting="single").startswith("quoting=single: must be one of double, ")


def test_objects_are_read_by_their_keys(tmp_path: Path) -> None:
    lines = '{"id": 1, "text": "a \\"b\\"\\nc", "label": 1.0}\n\n{"text": null, "label": null}\n{"label": "x"}\n'
    for name in ("own.jsonl", "own.ndjson", "own.json", "own.jsonl.gz"):
        data = lines.encode()
        found = documents.read(write(tmp_path, gzip.compress(data) if name.endswith("gz") else data, name))
        assert (found.texts, found.labels, found.column) == (['a "b"\nc', "", ""], ["1", None, "x"], "text")
    path = write(tmp_path, '[{"body": "a"}, {"body": "b"}]', "own.json")
    assert documents.read(path).texts == ["a", "b"]
    assert refusal(ConfigError, path, "text").endswith("has the columns body")
    for content, why in (
        ('{"text": "a"}\nb\n', "near line 2: expected a JSON object per line"),
        ('{"text": "a"}\n["b"]\n', "line 2 is not a JSON object"),
        ('{"text": {"b": 1}}\n', "line 1: 'text' is a dict, not a text"),
        ("\n\n", "is empty"),
    ):
        path = write(tmp_path, content, "own.jsonl")
        assert refusal(DataError, path).startswith(f"{path}: {why}")


def test_parquet_has_columns(tmp_path: Path) -> None:
    pd.DataFrame({"id": [1, 2], "text": ["a b", None], "label": [1.0, None]}).to_parquet(tmp_path / "own.parquet")
    found = documents.read(tmp_path / "own.parquet")
    assert (found.texts, found.labels, found.column) == (["a b", ""], ["1", None], "text")
    bad = write(tmp_path, "rubbish", "bad.parquet")
    assert refusal(DataError, bad).startswith(f"{bad}: cannot be read as Parquet")


def test_a_folder_has_a_document_per_file_and_a_label_per_folder(tmp_path: Path) -> None:
    for name, content in (
        ("pos/2.txt", "one\ntwo"),
        ("pos/deep/10.txt", "three"),
        ("neg/1.txt", ""),
        (".x/1.txt", "no"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "neg" / "2.txt.gz").write_bytes(gzip.compress(b"four"))
    (tmp_path / "README.md").write_text("no document")
    (tmp_path / "folder.txt").mkdir()
    found = documents.read(tmp_path)
    assert found.names == ["neg/1.txt", "neg/2.txt.gz", "pos/2.txt", "pos/deep/10.txt"]
    assert (found.texts, found.labels) == (["", "four", "one\ntwo", "three"], ["neg", "neg", "pos", "pos"])
    (tmp_path / "0.txt").write_text("top")
    assert documents.read(tmp_path).labels is None
    assert refusal(ConfigError, tmp_path, "body").startswith("column=body: ")


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    for data in (b"rubbish", gzip.compress(b"text " * 100)[:-9]):
        path = write(tmp_path, data, "own.txt.gz")
        assert refusal(DataError, path).startswith(f"{path}: cannot be read")


def test_labels_are_composed_and_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "label,text\ncafe\u0301,a\n ,b\ncaf\u00e9,c\n", "own.csv")
    assert documents.read(path).labels == ["caf\u00e9", None, "caf\u00e9"]
