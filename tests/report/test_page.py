import base64
from html.parser import HTMLParser

import pytest

from last.report.page import Table, write_page

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==")
ODD = """<script>alert("1" & '2')</script>"""


class Page(HTMLParser):
    """Tags with their attributes, and the text in reading order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.words.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page(tmp_path, title="Run", facts=None, tables=(), pictures=(), notes=()):
    write_page(tmp_path / "out" / "report.html", title, facts or {}, tables, pictures, notes)
    return Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))


def test_page_holds_everything_and_escapes_it(tmp_path):
    picture = tmp_path / "a.gif"
    picture.write_bytes(PIXEL)
    table = Table(ODD, [ODD, "b"], [[ODD, ODD]])
    got = page(tmp_path, ODD, {ODD: ODD}, [table], [(ODD, picture)], [ODD])
    # title, h1, fact and its name, caption, header, two cells, figure caption, note
    assert got.words.count(ODD) == 10
    assert not got.all("script")
    assert [image["alt"] for image in got.all("img")] == [ODD]


def test_page_needs_no_other_file(tmp_path):
    (tmp_path / "a.gif").write_bytes(PIXEL)
    got = page(tmp_path, pictures=[("A", tmp_path / "a.gif")])
    kind, _, data = got.all("img")[0]["src"].partition(",")
    assert (kind, base64.b64decode(data)) == ("data:image/gif;base64", PIXEL)
    loaded = [attributes for _, attributes in got.tags if {"src", "href"} & set(attributes)]
    assert loaded == got.all("img")
    assert any("default-src 'none'" in meta.get("content", "") for meta in got.all("meta"))


def test_table_headers_have_scope_and_numbers_are_aligned(tmp_path):
    table = Table("Scores", ["class", "clips", "recall"], [["sit", 3, 66.6667], ["stand", 0, None]])
    got = page(tmp_path, tables=[table])
    assert [(th["scope"], th.get("class")) for th in got.all("th")] == [
        ("col", None),
        ("col", "number"),
        ("col", "number"),
        ("row", None),
        ("row", None),
    ]
    assert {td["class"] for td in got.all("td")} == {"number"}
    assert got.words[-9:] == ["class", "clips", "recall", "sit", "3", "66.67", "stand", "0", "–"]


def test_parts_without_content_leave_nothing_behind(tmp_path):
    got = page(tmp_path)
    assert not any(got.all(tag) for tag in ("dl", "table", "figure", "ul"))
    assert got.words[-1] == "Run"


def test_table_without_rows_keeps_its_header(tmp_path):
    assert [th["scope"] for th in page(tmp_path, tables=[Table("Empty", ["a", "b"], [])]).all("th")] == ["col"] * 2


def test_rows_must_fit_the_header():
    with pytest.raises(ValueError, match="row 2 of the table 'Scores' has 1 cells, but its header has 2"):
        Table("Scores", ["class", "recall"], [["sit", 1], ["stand"]])


def test_picture_that_a_page_cannot_hold_is_named_and_the_old_page_stays(tmp_path):
    page(tmp_path, "Old")
    with pytest.raises(ValueError, match=r"player\.html.*\.png"):
        page(tmp_path, "New", pictures=[("Player", tmp_path / "player.html")])
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        page(tmp_path, "New", pictures=[("Absent", tmp_path / "absent.png")])
    assert "<h1>Old</h1>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
