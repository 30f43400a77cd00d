import dataclasses

import pytest

from last import config as module
from last.config import available, detect_environment, from_dict, load_config, own_name, recipe_of, with_overrides
from last.models import canonical_name, list_models
from last.setting_values import ConfigError
from last.settings import _RANGES, Config, check


@pytest.mark.parametrize("name", available("model"))
def test_every_model_file_loads_and_names_itself(name):
    assert load_config(model=name).model.name == name


def test_every_model_has_a_file_and_the_reverse():
    assert set(available("model")) == set(list_models())


@pytest.mark.parametrize("name", available("data"))
def test_every_data_file_loads_with_its_recipe(name):
    config = load_config(dataset=name)
    assert config.data.name == name
    assert config.training.recipe in available("training")


@pytest.mark.parametrize("name", available("training"))
def test_every_recipe_loads_and_names_itself(name):
    assert load_config(recipe=name).training.recipe == name


@pytest.mark.parametrize("name", available("environment"))
def test_every_environment_sets_paths_workers_and_batch_size_alone(name):
    assert load_config(environment=name).environment.name == name
    content = module.read_yaml(module.find("environment", name))
    assert set(content) == {"environment"}
    assert set(content["environment"]) == {"name", "data_root", "runs_root", "workers", "batch_size"}


def test_later_files_win_and_say_so():
    config = load_config("last_e_small", "nw_ucla", environment="local", overrides={"training.lr": "0.3"})
    assert config.training.lr == 0.3
    assert config.origins["training.lr"] == "command line"
    assert config.origins["training.ema"] == "configs/training/nw_ucla_long.yaml"
    assert config.origins["data.max_bodies"] == "configs/data/nw_ucla.yaml"
    assert config.origins["model.name"] == "configs/model/last_e_small.yaml"
    assert config.origins["environment.workers"] == "configs/environment/local.yaml"
    assert config.origins["data.test_crops"] == "built-in default"


def test_a_recipe_has_settings_for_last_alone_and_others_stay(tmp_path):
    streams = {name: load_config(name, "sbu", "two_persons").model.streams for name in ("last_e_nano", "last_v2_base")}
    assert set(streams.values()) == {("joint", "velocity", "bone", "partner")}
    assert load_config("efficientgcn_b0", "sbu", "two_persons").model.streams == ("joint",)
    assert (
        load_config("ddnet", "sbu", "two_persons", overrides={"model.name": "last_e_small"}).model.streams[3]
        == "partner"
    )
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: {streams: [bone]}")
    assert load_config("ctrgcn", "sbu", str(mine)).model.streams == ("bone",)
    mine.write_text("model_of_last: {streams: 7}")
    for name in ("ctrgcn", "last_e_nano"):
        with pytest.raises(ConfigError, match=r"model\.streams in .*mine\.yaml is 7, expected a list"):
            load_config(name, "sbu", str(mine))


@pytest.mark.parametrize("name", ["nano_e", "nano-e", "last_e_nano", "ctrgcn", "small"])
def test_a_network_comes_with_its_settings_whichever_way_it_is_named(name, tmp_path):
    by_setting = load_config("efficientgcn_b0", "sbu", "two_persons", overrides={"model.name": name})
    by_itself = load_config(name, "sbu", "two_persons")
    assert by_setting == by_itself and by_setting.origins == by_itself.origins
    assert by_itself.model.name == canonical_name(name)
    assert with_overrides(by_itself, {"model.name": name}) == by_itself
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"model: {{name: {name}, dropout: 0.1}}")
    from_a_file = load_config(str(mine), "sbu", "two_persons").model
    assert (from_a_file.name, from_a_file.dropout) == (by_itself.model.name, 0.1)
    assert ("partner" in from_a_file.streams) == ("partner" in by_itself.model.streams)


def test_a_name_on_the_command_line_goes_before_that_of_a_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: {name: small_e, dropout: 0.1}")
    for files in ({"model": str(mine)}, {"recipe": str(mine)}):
        model = load_config(**files, overrides={"model.name": "ctrgcn"}).model
        assert (model.name, model.dropout) == ("ctrgcn", 0.1)


def test_the_originals_recipe_stays_available():
    config = load_config(dataset="nw_ucla", recipe="default")
    assert (config.training.lr, config.training.batch_size, config.training.seed) == (0.01, 16, 42)
    assert config.data.name == "nw_ucla"


def test_data_sets_and_the_networks_of_others_name_their_recipes(tmp_path):
    assert recipe_of("data", "nw_ucla") == "nw_ucla_long"
    assert recipe_of("model", "last_e_nano") is None
    mine = tmp_path / "mine.yaml"
    mine.write_text("recipe: few_clips\nmodel:\n  name: last_e_nano\n")
    assert recipe_of("model", str(mine)) == "few_clips"
    assert load_config(str(mine), "nw_ucla").training.recipe == "nw_ucla_long"  # a network's own only where asked for
    mine.write_text("recipe: 3")
    with pytest.raises(ConfigError, match="is 3, expected the name of a recipe"):
        recipe_of("model", str(mine))


def test_a_users_own_files_work(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("training:\n  recipe: mine\n  lr: 1e-3\n  rotation: [1, 2, 3]\n")
    config = load_config(recipe=str(recipe))
    assert config.training.lr == 0.001  # YAML reads 1e-3 as text
    assert config.training.rotation == (1.0, 2.0, 3.0)
    assert config.origins["training.lr"] == str(recipe)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("training:\n  learning_rate: 1", r"unknown key 'training.learning_rate' in .*mine.yaml"),
        ("training:\n  epoch: 1", r"did you mean 'epochs'"),
        ("train:\n  lr: 1", r"unknown section 'train' in .*did you mean 'training'"),
        ("training:\n  epochs: many", r"training.epochs in .*mine.yaml is 'many', expected a whole number"),
        ("training:\n  epochs: 1.5", "expected a whole number"),
        ("training:\n  lr: 1" + 400 * "0", "expected a number"),
        ("training:\n  amp: 1", "expected true or false"),
        ("training:\n  amp: yes please", "expected true or false"),
        ("training:\n  lr: true", "expected a number"),
        ("training:\n  crop: 0.5", r"expected a list of 2 values \(a number, a number\)"),
        ("training:\n  crop: [0.5, 0.6, 0.7]", "expected a list of 2 values"),
        ("training:\n  crop: [0.9, 0.1]", "shortest and a longest fraction"),
        ("training:\n  class_weights: heavy", "expected one of none, balanced"),
        ("training:\n  batch_size: 0", "is 0, expected 1 to"),
        ("training:\n  lr: 0", r"training.lr in .*mine.yaml is 0.0, expected 1e-08 to 100"),
        ("training:\n  rotation: [0, 0, 1500]", r"rotation in .* is \(0.0, 0.0, 1500.0\), expected 0 to 180"),
        ("data:\n  min_frames: -3", "data.min_frames in .* is -3, expected 1 to"),
        ("data:\n  max_spread: -1", "data.max_spread in .* is -1.0, expected 0.01 to 100"),
        ("data:\n  max_implausible: 7", "data.max_implausible in .* is 7.0, expected 0 to 1"),
        ("training:\n  clip_norm: none please", "expected a number or none"),
        ("data:\n  normalise: {a: 1}", "expected a list of text values"),
        (
            "data: {sampling: pad}\ntraining: {crop: [0.5, 1]}",
            "is pad, which takes frames as they are, but the recipe crops",
        ),
        (
            "data: {sampling: pad}\ntraining: {flip_time: 0.5}",
            "or plays clips backwards; set .*flip_time=0",
        ),
        ("data: {sampling: pad}\ntraining: {warp: 0.5}", "is pad, .* changes their speed .* training.warp=0"),
        ("data: {sampling: pad, test_span: 0.9}", "is pad, .* data.test_span=none"),
        (
            "training: {schedule: steps, milestones: [30, 0]}",
            r"milestones in .* is \[30, 0\], expected numbers of epochs",
        ),
        ("training:\n  schedule: steps", "'steps' needs some, and 'cosine' none"),
        ("training:\n  milestones: [3]", "'steps' needs some, and 'cosine' none"),
        ("training: 3", "expected keys with values"),
        ("[1, 2]", "holds list, expected a mapping"),
        ("a: [", r"cannot read .*mine.yaml as YAML: while parsing"),
        ("training:\n  lr: &a 1\n  ema: *a", r"as YAML: line 3 has the alias '\*a'; write its value out"),
        ("training: {crop: '&a 0.5, *a'}", "is '&a 0.5, .a', expected a list of 2 values"),
        ("training: {crop: '2020-99-99, 1'}", "is '2020-99-99, 1', expected a list of 2 values"),
    ],
)
def test_a_wrong_file_is_told_with_file_and_key(tmp_path, text, sentence):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load_config(recipe=str(recipe))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("training.crop", "0.7,1", (0.7, 1.0)),
        ("training.crop", "[0.7, 1]", (0.7, 1.0)),
        ("training.clip_norm", "none", None),
        ("training.amp", "true", True),
        ("model.streams", "joint,bone", ("joint", "bone")),
        ("model.share_backbone", "false", False),
        ("data.normalise", "[]", ()),
    ],
)
def test_command_line_text_becomes_values(key, text, value):
    section, name = key.split(".")
    assert getattr(getattr(load_config(overrides={key: text}), section), name) == value


def test_unknown_names_offer_the_nearest():
    with pytest.raises(ConfigError, match=r"no data configuration 'nw_ucl' \(did you mean 'nw_ucla'"):
        load_config(dataset="nw_ucl")


def test_a_file_that_is_not_there_is_a_sentence_and_offers_the_nearest_beside_it(tmp_path):
    for absent in (tmp_path / "mine.yml", tmp_path / "nowhere" / "mine.yaml"):
        with pytest.raises(ConfigError, match=f"there is no file {absent}; check its name and its folder$"):
            load_config(recipe=str(absent))
    (tmp_path / "z.yaml").touch()
    with pytest.raises(ConfigError, match=r"qq\.yaml; check its name"):
        load_config(recipe=str(tmp_path / "qq.yaml"))
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.ymm").touch()
    with pytest.raises(ConfigError, match=r"there is no file .*mine\.yml \(did you mean 'mine\.yaml'\?\)$"):
        load_config(dataset=str(tmp_path / "mine.yml"))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*folder\.yaml: Is a directory; expected settings as text"):
        load_config(recipe=str(tmp_path / "folder.yaml"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("my_set", r"did you mean 'my-set\.yaml'\?"),
        ("data/my-set", r"did you mean 'my-set\.yaml'\?"),
        ("data/other", "data/other is a prepared store, which --data takes; give here the .yaml file"),
        ("recordings", "to train on recordings, describe its clips with 'last data new recordings --name NAME'"),
        ("one.csv", "describe its clips with 'last data new one.csv --name NAME', and give NAME.yaml"),
        ("data/ntu60", "did you mean 'ntu60'"),
    ],
)
def test_files_of_ones_own_that_bear_the_name_are_pointed_to(tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    for folder in ("data/my-set", "data/other", "data/ntu60", "recordings"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("my-set.yaml", "one.csv", "data/other/meta.json", "data/ntu60/meta.json"):
        (tmp_path / file).touch()
    with pytest.raises(ConfigError, match=f"no data configuration '{name}' .*{hint}"):
        load_config(dataset=name)


def test_recordings_are_offered_for_a_data_set_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swim").mkdir()
    with pytest.raises(ConfigError, match="no training configuration 'swim'; there are"):
        load_config(recipe="swim")
    (tmp_path / "swim.yaml").touch()
    with pytest.raises(ConfigError, match=r"no training configuration 'swim' \(did you mean 'swim\.yaml'"):
        load_config(recipe="swim")


def test_a_run_has_the_name_that_a_file_gives_itself(tmp_path):
    mine = tmp_path / "mine.yaml"
    for text, name in (("training: {recipe: short}", "short"), ("training: {lr: 1}", "default"), ("{}", "default")):
        mine.write_text(text)
        assert own_name("training.recipe", str(mine)) == load_config(recipe=str(mine)).training.recipe == name
    assert own_name("training.recipe", "few_clips") == "few_clips"


def test_a_configuration_survives_its_plain_form():
    config = load_config("last_v2_base", "ntu120", overrides={"training.seed": 5})
    assert from_dict(config.to_dict(), "a file") == config


def test_overriding_leaves_the_rest():
    config = load_config(dataset="nw_ucla")
    changed = with_overrides(config, {"data.path": "elsewhere"})
    assert changed == dataclasses.replace(config, data=dataclasses.replace(config.data, path="elsewhere"))
    assert with_overrides(config, {}) == config


def test_kaggle_is_detected(monkeypatch):
    monkeypatch.setattr(module.Path, "is_dir", lambda self: str(self) == "/kaggle")
    assert detect_environment() == "kaggle"
    monkeypatch.setattr(module.Path, "is_dir", lambda self: False)
    assert detect_environment() == "local"


def test_the_built_in_defaults_pass_their_own_checks():
    check(dataclasses.replace(Config(), origins=dict.fromkeys(_RANGES, "")))
