"""Config: every option once."""

import dataclasses

import pytest

from miniasgi.config import Config, ConfigError, environment_name, make_config


def test_every_option_has_help_and_a_default_that_it_takes():
    for each in dataclasses.fields(Config):
        assert each.metadata["help"]
        assert make_config({each.name: each.default}) == Config()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": -1}, "port is at least 0, not -1"),
        ({"port": 65536}, "port is at most 65535, not 65536"),
        ({"port": "80"}, "port is a value of type int, not '80'"),
        ({"port": True}, "port is a value of type int, not True"),
        ({"port": 80.5}, "port is a value of type int, not 80.5"),
        ({"host": None}, "host is a value of type str, not None"),
        ({"access_log": 1}, "access_log is a value of type bool, not 1"),
        ({"lifespan": "maybe"}, "lifespan is one of auto, on, off, not 'maybe'"),
        ({"timeout_head": 0}, "timeout_head is at least 0.1, not 0"),
        ({"timeout_head": float("nan")}, "timeout_head is at least 0.1, not nan"),
        ({"root_path": "api"}, "root_path begins with a slash"),
        ({"root_path": "/api/"}, "root_path begins with a slash"),
        ({"prot": 80}, "there is no option 'prot'; did you mean 'port'"),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_says_so(options, text):
    with pytest.raises(ConfigError) as caught:
        make_config(options)
    assert text in str(caught.value)


def test_a_whole_number_is_a_time():
    assert make_config({"timeout_head": 3}).timeout_head == 3


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1


def test_environment_names():
    assert environment_name("ws_max_size") == "MINIASGI_WS_MAX_SIZE"
