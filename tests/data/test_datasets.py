"""What a description of one's own says wrongly is told by its file and key."""

import pytest

from last.data.datasets import load_dataset
from last.setting_values import ConfigError

ABOUT = {"format": "csv", "layout": "ntu", "classes": ["run", "jump"]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"columns": ["head_x", "head_y"]}, r"has \['head_x', 'head_y'\] as 'columns', expected keys with values; it"),
        ({"format": ["csv"]}, r"has \['csv'\] as 'format', expected text; it has classes, columns"),
        ({"obtain": 7, "expected": 8}, "has 7 as 'obtain', expected text, has 8 as 'expected', expected keys with"),
        ({"layout": {"a": "b"}}, r"has \{'a': 'b'\} as 'layout', expected text"),
        ({"classes": None, "format": None}, "lacks 'format', lacks 'classes'; it has"),
        ({"colour": "red"}, "has the unknown key 'colour'; it has"),
        ({"format": "cvs"}, "has the format 'cvs', expected one of"),
        ({"classes": 5}, "is '5', expected a list of names"),
    ],
)
def test_a_description_of_other_types_is_told(tmp_path, change, sentence):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"about: {ABOUT | change}".replace("None", "null"))
    with pytest.raises(ConfigError, match=rf"in .*mine\.yaml .*{sentence}"):
        load_dataset(str(mine))


def test_what_a_description_leaves_empty_has_its_default(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"about: {ABOUT | dict.fromkeys(('title', 'obtain', 'columns', 'expected'))}".replace("None", ""))
    dataset = load_dataset(str(mine))
    assert (dataset.title, dataset.columns, dataset.expected) == ("mine", {}, {})
    assert dataset.obtain == f"They are your own; {mine} describes them."
