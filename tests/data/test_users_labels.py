"""Labels from CSV files and arrays: encodings, spaces, missing ones, rows that fit no image or several."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from PIL import Image

from lacuna.data.sources.arrays import Arrays
from lacuna.data.sources.folder import Folder
from lacuna.data.sources.label_table import read_labels
from lacuna.errors import LacunaError

NAMES = ["a.png", "Größe 1.png", "deep/c.png"]
TABLE = "file,label\r\na.png,Möwe\r\nGröße 1.png,Ente\r\ndeep/c.png,Möwe\r\n"


@pytest.fixture
def table(tmp_path):
    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", 0), ("utf-8-sig", 0), ("utf-16", 0), ("cp1252", 1), ("latin-1", 1)]
)
def test_every_usual_encoding_is_read(table, encoding, said):
    labels, remarks = read_labels(table(TABLE.encode(encoding)), NAMES)
    assert labels == ["Möwe", "Ente", "Möwe"]
    assert len(remarks) == said and all("was read as Windows-1252" in remark for remark in remarks)


@pytest.mark.parametrize("raw", [TABLE.encode("utf-16-le"), b"\xff\xfea", b"file,label\na.png,\x81\xff\n"])
def test_other_encodings_are_refused_in_a_sentence(table, raw):
    with pytest.raises(LacunaError, match=r"labels\.csv .*: save it as UTF-8\."):
        read_labels(table(raw), NAMES)


@pytest.mark.parametrize(
    "text",
    [
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace("file,label", " file , label "),
        TABLE.replace("deep/c", "deep\\c").replace("a.png", "./a.png"),
        TABLE + "\r\n,\r\n",
        unicodedata.normalize("NFD", TABLE).replace("Mo\u0308we", "Möwe"),
        "label,file\nMöwe,a.png\nEnte,Größe 1.png\nMöwe,deep/c.png\n",
    ],
)
def test_spellings_of_one_table_are_the_same_table(table, text):
    assert read_labels(table(text), NAMES) == (["Möwe", "Ente", "Möwe"], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TABLE + "a.png,Ente\n", r"has two rows for a\.png"),
        (TABLE + "./a.png,Möwe\n", r"has two rows for a\.png"),
        (TABLE.replace("Ente", ""), r"Größe 1\.png .* missing or NaN \(1 such images\)"),
        (TABLE.replace("Möwe", "NA"), r"a\.png .* missing or NaN \(2 such images\): it is 'NA'"),
        (TABLE.replace("Ente", " nan "), "missing or NaN"),
        (TABLE.replace("a.png", "b.png"), r"has no row for a\.png"),
        (TABLE.replace("file,label", "label,label"), "needs the columns file and label"),
        ("file,label,label\na.png,x,y\n", "two columns of one name"),
        ("", "needs the columns"),
        ("file,label\n", "needs the columns"),
    ],
)
def test_unusable_tables_are_refused(table, text, words):
    with pytest.raises(LacunaError, match=words):
        read_labels(table(text), NAMES)


def test_rows_without_an_image_and_spaces_are_said(table):
    labels, remarks = read_labels(
        table("file,label\na.png,cat \nb.png, cat\nc.png,dog\ngone.png,ox\n"), ["a.png", "b.png"]
    )
    assert labels == ["cat", "cat"]
    assert remarks == [
        "2 row(s) of labels.csv name no image and are not used (c.png)",
        "2 label(s) of labels.csv were stripped of spaces (' cat', 'cat ')",
    ]


def test_a_table_labels_a_folder(tmp_path, capsys):
    for number in range(4):
        Image.fromarray(np.full((4, 4), number + 1, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,cat\n1.png,cat \n2.png,dog\n3.png,dog\n")
    data = Folder(str(tmp_path), labels_csv="labels.csv", test_fraction=0.5).prepare(tmp_path / "root")
    assert data.provenance.class_names == ("cat", "dog")
    for split in ("train", "test"):
        arrays = data.split(split)
        assert all(label == (image[0, 0, 0] > 2) for image, label in zip(arrays.images, arrays.labels, strict=True))
    assert "1 label(s) of labels.csv were stripped" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_of_arrays_are_stripped_and_missing_ones_refused(tmp_path, capsys, kind):
    images, path = np.ones((4, 5, 5), np.uint8), tmp_path / "x.npz"
    np.savez(path, images=images, labels=np.array(["cat", "cat ", "dog", " dog"]).astype(kind))
    data = Arrays(str(path)).prepare(tmp_path)
    assert data.provenance.classes == 2 and "2 label(s) were stripped of spaces" in capsys.readouterr().err
    for word in ("NA", "", "None", " "):
        np.savez(path, images=images, labels=np.array(["cat", word, "dog", "dog"]).astype(kind))
        with pytest.raises(LacunaError, match=r"'train' image 1 is missing or NaN \(1 such"):
            Arrays(str(path)).prepare(tmp_path)
