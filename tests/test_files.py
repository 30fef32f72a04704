"""Writing and reading of files: atomic, never through links, bounded; names made safe for consoles and spreadsheets."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from autoenc.errors import DataError
from autoenc.files import TEMPORARY, append, atomic, read_json, remove_temporary, shortened, write_text
from autoenc.streams import Tolerant
from autoenc.text import csv_text, printable


def test_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_atomic_files_replace_links_and_leave_nothing_after_errors(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "a").symlink_to(tmp_path / "target")
    write_text(tmp_path / "a", "ours")
    assert ((tmp_path / "target").read_text(), (tmp_path / "a").read_text()) == ("theirs", "ours")
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "b"):
        raise KeyboardInterrupt
    assert {path.name for path in tmp_path.iterdir()} == {"target", "a"}


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    for name in (".last.pt.abcd1234", ".lock", ".hydra", "last.pt"):
        (tmp_path / name).touch()
    remove_temporary(tmp_path, tmp_path / "missing")
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".hydra", "last.pt"}


@pytest.mark.parametrize(
    "name",
    ["é" * 122 + ".csv", "a" + "日" * 84, "two\nlines", os.fsdecode(b"\xe9" * 250)],
    ids=["accents", "characters of three bytes", "a line break", "no UTF-8"],
)
def test_names_of_255_bytes_are_written(name: str, tmp_path: Path) -> None:
    with atomic(tmp_path / name):
        (temporary,) = tmp_path.iterdir()
        assert TEMPORARY.fullmatch(temporary.name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_are_shortened_by_whole_characters() -> None:
    assert shortened("é" * 122 + ".csv") == "é" * 100
    assert shortened("a" + "日" * 84) == "a" + "日" * 66
    assert shortened("loss.csv") == "loss.csv"


def test_appending_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "bashrc").write_text("")
    (tmp_path / "soft").symlink_to(tmp_path / "bashrc")
    (tmp_path / "hard").hardlink_to(tmp_path / "bashrc")
    os.mkfifo(tmp_path / "pipe")
    for name in ("soft", "hard", "pipe"):
        with pytest.raises(DataError, match=name):
            append(tmp_path / name)
    with append(tmp_path / "new") as file:
        file.write("line\n")
    assert (tmp_path / "new").read_text() == "line\n"


def test_reading_is_bounded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "large").write_text(f'"{"a" * 100}"')
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, why in (("pipe", "regular"), ("deep", "nested"), ("large", "bytes"), ("zero", "regular")):
        with pytest.raises(ValueError, match=why):
            read_json(tmp_path / name, limit=200_000 if name == "deep" else 100)


def test_control_characters_are_escaped() -> None:
    assert printable("a\nb\x1b[31m\u202e\u2028\x9b") == r"a\nb\x1b[31m\u202e\u2028\x9b"
    assert printable("naïve 日本 👩‍🚀") == "naïve 日本 👩‍🚀"
    assert printable("a\nb\t", keep="\n") == "a\nb\\t"


def test_cells_of_a_csv_are_no_formulas() -> None:
    rows = [["=1+1", "+a", "-a", "@a", "-1.5", "+3e4", "-", -2, 0.5, None, "a\nb", "", "-inf"]]
    assert csv_text(rows) == "'=1+1,'+a,'-a,'@a,-1.5,+3e4,-,-2,0.5,,a\\nb,,-inf\n"


def test_output_without_a_reader_is_dropped() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        stream = Tolerant(pipe)
        stream.write("text")
        stream.flush()
        stream.write("more")
        stream.flush()
    ascii_only = Tolerant(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert ascii_only.write("é") == 1
