"""Mistakes in a config's flags, one line each; tests/test_cli.py has them in every command."""

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import config_flags

from configs import test as test_config
from uatmc_jax import cli
from uatmc_jax.overrides import fields_of, suggest


@pytest.fixture
def parsed(monkeypatch):
    """Parses a command line with two flags that take configs; gives their values."""

    def parse(*arguments, **defaults):
        values = flags.FlagValues()
        for name in ("config", "plan"):
            config_flags.DEFINE_config_file(name, None, "", flag_values=values)
        argv = ["train", *arguments]
        monkeypatch.setattr(flags, "FLAGS", values)
        monkeypatch.setattr("sys.argv", argv)  # where a config flag looks for its overrides
        left = cli._parse_flags(argv, defaults)
        return values["config"].value, values["plan"].value, left[1:]

    return parse


@pytest.fixture
def refused(parsed, capsys):
    """The one line that a command line is refused with."""

    def refuse(*arguments, **defaults):
        with pytest.raises(SystemExit) as stopped:
            parsed(*arguments, **defaults)
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    return refuse


FIELDS = {
    "mistyped": (["adversarial.epz=1"], "epz: no such field; did you mean config.adversarial.eps?"),
    "of another section": (["eps=0.05"], "eps: no such field; did you mean config.adversarial.eps"),
    "of two sections": (["mu=1"], "did you mean config.adversarial.mu or config.pretrain.mu?"),
    "of many": (["norm=l2"], "did you mean config.adversarial.norm?"),
    "a section misspelt": (["pretrian.mu=1"], "did you mean config.pretrain.mu?"),
    "of nothing": (["nonsense"], "config.nonsense: no such field. config has adversarial, check"),
    "of nothing below": (["eval.xxxxxx=1"], "no such field. config.eval has block_items, block"),
    "below a value": (["seed.x=1"], "config.seed is a value (999), not a section"),
    "attribute of a value": (["seed.real=1"], "config.seed is a value (999), not a section"),
    "method of a value": (["data.name.upper=1"], "config.data.name is a value ('synthetic')"),
    "method of a section": (["items=1"], "config.items: no such field"),
    "of a tuple": (["eval.ks[0]=3"], "config.eval.ks is a value ((5, 10, 20, 50)), not a section"),
    "no name": (["data..name=1"], "--config.data..name: no such field"),
    "an expression": (["data()=1"], "--config.data(): no such field"),
    "off": (["", "--noconfig.adversarial.random=1"], "no such field"),
    "no number": (["adversarial.eps=abc"], "eps=abc: wanted a number, as 0.1 is."),
    "no number, apart": (["adversarial.eps", "abc"], "eps=abc: wanted a number, as 0.1 is."),
    "no whole number": (["seed=0.5"], "--config.seed=0.5: wanted a whole number, as 999 is."),
    "no yes or no": (["adversarial.random_start=x"], "wanted true or false, as False is"),
    "no tuple": (["eval.ks=(5, 10"], "ks=(5, 10: wanted a tuple, as (5, 10, 20, 50) is."),
    "no section": (
        ["adversarial=3"],
        "--config.adversarial=3: is a section. Set its fields, as in",
    ),
    "no value": (["adversarial.eps"], "Pass --help for the flags"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_cannot_be_set(name, refused):
    (field, *more), message = FIELDS[name]
    override = [f"--config.{field}"] if field else []
    assert message in refused("--config=test", *override, *more)
    assert message in refused(*override, *more, config="test")


RAISING = {
    "KeyError": "raise KeyError('no', 'way')",
    "OSError": "raise OSError('no\\nway')",
    "ModuleNotFoundError": "import nowhere_to_be_found",
    "ValueError": "raise ValueError('two\\nlines')",
    "AttributeError": "None.x",
}


@pytest.mark.parametrize("kind", RAISING)
def test_a_config_that_raises_is_named_with_its_flag(kind, refused, tmp_path):
    file = tmp_path / "raising.py"
    file.write_text(f"def get_config():\n    {RAISING[kind]}\n")
    for more in ([], ["--plan.seed=1"]):
        said = refused("--config=test", f"--plan={file}", *more)
        assert said.startswith(f"error: --plan {file}: {kind}: ")
    assert refused(f"--config={file}").startswith(f"error: --config {file}: {kind}: ")


def test_fields_without_or_before_their_config(refused):
    said = refused("--config.seed=1")
    assert "--config.seed: there is no --config with this field. Name the config too" in said
    said = refused("--config.seed=1", "--config=test")
    assert "--config.seed: stands before --config, which would undo it. Give --config first" in said


def test_what_is_right_is_set(parsed):
    fields = ["--config.adversarial.eps=0.05", "--config.eval.ks=(5, 20)", "--config.seed", "7"]
    more = [
        "--config.adversarial.random_start",
        "--config.model.hidden={'visual': (3,), 'textual': (4,)}",
        "left",
    ]
    expected = test_config.get_config()
    expected.adversarial.eps, expected.eval.ks, expected.seed = 0.05, (5, 20), 7
    expected.adversarial.random_start = True
    expected.model.hidden.visual, expected.model.hidden.textual = (3,), (4,)
    for config, plan, left in (
        parsed("--config=test", *fields, *more),
        parsed("--config", "test", "--plan=test", *fields, *more),
        parsed(*fields, *more, config="test", plan="test"),
    ):
        assert config.to_dict() == expected.to_dict() and left == ["left"]
        assert plan is None or plan.to_dict() == test_config.get_config().to_dict()


CONFIG = fields_of(test_config.get_config())
NAMES = st.one_of(st.sampled_from([str(path[-1]) for path in CONFIG]), st.text(max_size=9))


@given(st.lists(NAMES, min_size=1, max_size=4).map(tuple))
def test_what_is_suggested_is_there(path):
    found = suggest(path, CONFIG)
    assert len(found) <= 3 and all(one in CONFIG for one in found)
    if path in CONFIG:
        assert path in found


def test_every_field_is_found_with_a_letter_left_out():
    for path in CONFIG:
        if len(path[-1]) > 3:
            assert path in suggest((*path[:-1], path[-1][:-1]), CONFIG), path
