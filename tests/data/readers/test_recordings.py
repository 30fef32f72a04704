"""Recordings: formats of files, regular steps, gaps, and the one line that each fault gives."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile

from autoenc.data.readers.recordings import Format, Reader, Recording
from autoenc.data.readers.recordings.steps import Rows, regular
from autoenc.errors import DataError


def read(path: Path, **options: object) -> list[Recording]:
    return list(Reader(Format(**options)).recordings(path))  # type: ignore[arg-type]


def csv(folder: Path, text: str, name: str = "log.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


TABLE = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=5, freq="1min"), "a": np.arange(5.0), "b": 2.5})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_with_a_time_column_are_recordings(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    if suffix == ".parquet":
        TABLE.to_parquet(path)
    else:
        TABLE.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    (found,) = read(path)
    assert (found.step, found.runs, found.rows) == (60.0, ((0, 5),), None)
    np.testing.assert_array_equal(found.values, TABLE[["a", "b"]])
    assert found.stamps is not None
    assert found.stamps[1].startswith("2024-01-01 00:01")


def test_decimal_commas_semicolons_ids_and_labels(tmp_path: Path) -> None:
    text = "t;who;x;bad\n0;p;1,5;0\n1;p;2,5;1\n0;q;1.000,5;0\n1;q;4;0\n"
    one, two = read(csv(tmp_path, text), decimal=",", id="who", label="bad")
    assert (one.name, two.name) == ("log.csv:p", "log.csv:q")
    np.testing.assert_array_equal(one.values, [[1.5], [2.5]])
    np.testing.assert_array_equal(two.values, [[1000.5], [4]])
    assert (one.labels.tolist(), two.labels.tolist()) == (["0", "1"], ["0", "0"])


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((6,), {}, [(6, 1)]),
        ((4, 6), {"window": 3}, [(6, 1)] * 4),
        ((6, 2), {"window": 3}, [(6, 2)]),
        ((6, 4), {"window": 3, "layout": "channels"}, [(6, 4)]),
        ((2, 6, 3), {}, [(6, 3)] * 2),
    ],
)
def test_arrays(tmp_path: Path, shape: tuple[int, ...], options: dict, expected: list[tuple[int, int]]) -> None:
    np.save(tmp_path / "x.npy", np.random.rand(*shape))
    assert [each.values.shape for each in read(tmp_path / "x.npy", **options)] == expected


def _pcm24(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(8000)
        file.writeframes(b"".join(int(v * 2**23).to_bytes(3, "little", signed=True) for v in samples))


@pytest.mark.parametrize("form", ["16", "24", "float", "8"])
def test_wav_of_all_widths_lies_in_minus_one_to_one(tmp_path: Path, form: str) -> None:
    x, path = 0.9 * np.sin(np.arange(100) / 5), tmp_path / "x.wav"
    if form == "24":
        _pcm24(path, x)
    else:
        stored = {
            "16": (x * 2**15).astype(np.int16),
            "float": x.astype(np.float32),
            "8": (x * 128 + 128).astype(np.uint8),
        }
        wavfile.write(path, 8000, stored[form])
    (found,) = read(path)
    assert found.step == 1 / 8000
    np.testing.assert_allclose(found.values[:, 0], x, atol=1 / 128 if form == "8" else 1e-4)


def test_a_folder_has_a_recording_in_each_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.csv", "a.csv", "in/c.csv"):
        csv(tmp_path, "x\n1\n2\n", name)
    assert [each.name for each in read(tmp_path)] == ["a.csv", "b.csv", "in/c.csv"]


@pytest.mark.parametrize(
    ("normal", "told"), [(None, "labels are used if all have them"), ("0", "their steps count as normal")]
)
def test_recordings_without_the_column_of_labels_are_told(tmp_path: Path, normal: str | None, told: str) -> None:
    csv(tmp_path, "x,y\n1,0\n2,1\n", "a.csv")
    csv(tmp_path, "x\n1\n2\n", "b.csv")
    reader = Reader(Format(label="y", normal=normal))
    assert [each.labels is None for each in reader.recordings(tmp_path)] == [False, True]
    assert reader.notes[-1] == f"{tmp_path}: 1 of 2 recordings without a column y: {told}"


def test_hidden_folders_are_no_recordings(tmp_path: Path) -> None:
    (tmp_path / ".ipynb_checkpoints").mkdir()
    csv(tmp_path, "x\n1\n2\n", "a.csv")
    csv(tmp_path, "x\n1\n2\n", ".ipynb_checkpoints/a-checkpoint.csv")
    assert [each.name for each in read(tmp_path)] == ["a.csv"]


def test_points_are_thousands_in_groups_of_three_or_refused_where_commas_are_decimal(tmp_path: Path) -> None:
    (found,) = read(csv(tmp_path, "x;y\n1.234,5;1\n-7,25;12.345.678\n"), decimal=",")
    np.testing.assert_array_equal(found.values, [[1234.5, 1], [-7.25, 12345678]])
    with pytest.raises(DataError, match=r"'1\.5' is not a number"):
        read(csv(tmp_path, "x;y\n1.5;1\n2,5;2\n"), decimal=",")


def test_short_gaps_are_interpolated_and_long_ones_cut(tmp_path: Path) -> None:
    seconds = [0, 1, 2, 4, 5, 30, 31, 32, 33, 34, 35, 36]
    rows = Rows("r", np.array(seconds, float)[:, None] * [[1.0, -2.0]], np.array(seconds, float))
    found = regular(rows, None, max_gap=3)
    assert found.runs == ((0, 6), (6, 13))
    np.testing.assert_allclose(found.values[:, 0], [0, 1, 2, 3, 4, 5, *range(30, 37)])
    assert found.notes == {"interpolated": 1, "gaps": 1}
    assert found.observed is not None
    assert np.argwhere(~found.observed).tolist() == [[3, 0], [3, 1]]
    np.testing.assert_array_equal(found.rows, [0, 1, 2, 4, 5, *range(6, 13)])


def test_missing_values_of_one_channel_are_interpolated_or_cut_too() -> None:
    values = np.arange(20.0)[:, None].repeat(2, 1)
    values[4, 0] = np.nan
    values[8:15, 1] = np.nan
    found = regular(Rows("r", values), None, max_gap=3)
    assert found.runs == ((0, 8), (8, 13))
    assert found.observed is not None
    assert np.argwhere(~found.observed).tolist() == [[4, 0]]
    np.testing.assert_allclose(found.values[:, 0], [*range(8), *range(15, 20)])
    np.testing.assert_array_equal(found.rows[7:16], [7, *[-1] * 7, 8])
    np.testing.assert_array_equal(found.label_rows(np.arange(13.0))[[7, 8, 15]], [7, np.nan, 8])


def test_irregular_rows_are_resampled_to_the_steps_that_are_asked_for() -> None:
    t = np.sort(np.random.default_rng(0).uniform(0, 50, 400))
    found = regular(Rows("r", np.sin(t)[:, None], t), 0.5, max_gap=5)
    at = np.rint((t - t[0]) / 0.5)
    first = t[0] + 0.5 * np.unique(at)[0]
    np.testing.assert_allclose(found.values[:, 0], np.sin(first + 0.5 * np.arange(len(found))), atol=0.3)
    assert found.step == 0.5
    slow = regular(Rows("r", np.arange(6.0)[:, None], np.arange(6) * 2.0), 1.0, max_gap=5)
    np.testing.assert_allclose(slow.values[:, 0], np.arange(11) / 2)


def test_a_step_between_two_rows_has_the_fault_of_either() -> None:
    seconds = np.arange(7) * 0.6
    labels = np.array(["fault" if row == 1 else "0" for row in range(7)], object)
    found = regular(Rows("r", seconds[:, None], seconds, labels=labels), 1.0, 5, "0")
    np.testing.assert_allclose(found.values[:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(found.rows, [0, 1, 1, 2, 2, 3, -1])
    assert found.labels is not None
    assert found.labels.tolist() == ["0", "fault", "0", "0"], "the row at 0.6 s is of step 1, the one at 1.2 s nearer"


def test_steps_between_rows_are_interpolated_if_they_are_asked_for() -> None:
    seconds = np.array([0, 10, 20, 30, 200, 210, 220.0])
    found = regular(Rows("r", seconds[:, None], seconds), 1.0, max_gap=5)
    assert found.runs == ((0, 31), (31, 52)), "a gap is one of more rows than max_gap"
    np.testing.assert_allclose(found.values[:, 0], [*range(31), *range(200, 221)])


def test_time_zones_are_converted(tmp_path: Path) -> None:
    text = "time,x\n2024-03-31T00:59:00+00:00,1\n2024-03-31T03:00:00+02:00,2\n2024-03-31T03:01:00+02:00,3\n"
    assert read(csv(tmp_path, text))[0].step == 60


def test_time_zones_are_alike_in_all_files_and_in_new_ones(tmp_path: Path) -> None:
    zoned = csv(tmp_path, "time,x\n2024-01-01T00:00Z,1\n2024-01-01T00:01Z,2\n", "a.csv")
    plain = csv(tmp_path, "time,x\n2024-01-01 00:00,1\n2024-01-01 00:01,2\n", "b.csv")
    numbers = csv(tmp_path / "..", "time,x\n1,1\n2,2\n", "numbers.csv")
    message = r"b\.csv: column time: '2024-01-01 00:00' has no time zone, the time stamps of .*a\.csv have one; write"
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    for known, other, words in ((zoned, plain, ("no time zone", "one")), (plain, zoned, ("a time zone", "none"))):
        reader = Reader(Format())
        list(reader.recordings(known))
        again = Reader(reader.format)
        assert len([*again.recordings(known), *again.recordings(numbers)]) == 2
        message = (
            f"has {words[0]}, the time stamps of the training data have {words[1]}; write those of all files alike"
        )
        with pytest.raises(DataError, match=message):
            list(again.recordings(other))


FAULTS: dict[str, tuple[str, dict, str]] = {
    "no order": ("time,x\n2,1\n1,2\n", {}, r"log\.csv: row 2, 1, is earlier than the row before; sort"),
    "duplicates": ("time,x\n1,1\n1,2\n", {}, r"log\.csv: row 2 has the time stamp of the row before, 1;"),
    "zones": ("time,x\n2024-01-01 10:00Z,1\n2024-01-01 11:00,2\n", {}, "has a time zone and .* has none"),
    "no time": ("time,x\n1,1\n,2\n", {}, "row 2 has no time stamp"),
    "not a time": ("time,x\n2024-01-01,1\nyesterday,2\n", {}, "row 2: 'yesterday' is not a time stamp"),
    "rate": (
        "time,x\n" + "".join(f"{i},0\n" for i in range(6)) + "".join(f"{i},0\n" for i in range(7, 17, 2)),
        {},
        r"the rate changes: from steps of 1 s to 2 s; data\.step=2 resamples",
    ),
    "text": ("t,x,y\n1,2,on\n", {}, r"column y, row 1: 'on' is not a number; data\.drop=\[y\]"),
    "comma": ("t;x\n1;2,5\n", {}, r"'2,5' is not a number; data\.decimal=','"),
    "label": ("t,x\n1,2\n", {"label": "z"}, r"data\.label=z: no file in .* has such a column; there are t, x"),
    "drop": ("t,x\n1,2\n", {"drop": ("z",)}, r"data\.drop=\[z\]: no file in .* has such a column"),
    "gap": ("x\n1\n" + "NA\n" * 9, {"max_gap": 2}, None),
    "empty": ("x\n" + "NA\n" * 9, {"max_gap": 2}, r"every step lies in a gap longer than data\.max_gap=2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line(tmp_path: Path, fault: str) -> None:
    text, options, message = FAULTS[fault]
    path = csv(tmp_path, text)
    if message is None:
        assert len(read(path, **options)[0]) == 1
        return
    with pytest.raises(DataError, match=message) as refused:
        read(path, **options)
    assert "\n" not in str(refused.value)
    assert path.read_text() == text


def _truncated(path: Path) -> None:
    wavfile.write(path, 8000, np.zeros(1000, np.int16))
    path.write_bytes(path.read_bytes()[:500])


def _stereo(path: Path) -> None:
    wavfile.write(path, 8000, np.zeros((1000, 2), np.int16))


@pytest.mark.parametrize(
    ("write", "message"),
    [(_truncated, "truncated"), (_stereo, "has 2 channels, the training data has 1"), (Path.touch, "is empty")],
)
def test_sounds_that_do_not_fit(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "x.wav")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.wav", channels=("value",))


def test_columns_that_differ_between_files(tmp_path: Path) -> None:
    csv(tmp_path, "t,x\n1,2\n", "a.csv")
    csv(tmp_path, "t,y\n1,2\n", "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: has no channel x, unlike .*a\.csv"):
        read(tmp_path)
    csv(tmp_path, "t,x,y\n1,2,3\n", "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: has a column y, unlike .*data\.drop=\[y\]"):
        read(tmp_path)
