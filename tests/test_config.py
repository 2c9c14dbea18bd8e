"""`Config`: what is read, what is refused, and how it says so."""

from __future__ import annotations

import inspect
import os
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyraft import addresses
from tinyraft.config import SETTINGS, Config, parse_addresses, split_address
from tinyraft.errors import ConfigError

MIB = 1024 * 1024
LEAST = {"RAFT_DATA_DIR": "/var/lib/Node-1"}


def named(*cases):
    """Turn (sentence, *values) into parameters whose ids are the sentences."""
    return [pytest.param(*values, id=sentence) for sentence, *values in cases]


def read(**variables: str) -> Config:
    return Config.from_env({**LEAST, **variables})


def problems(**variables: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(**variables)
    return caught.value.problems


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    named(
        ("a name and a port", "node-1.example:50051", ("node-1.example", 50051)),
        ("underscores, as compose files have them", "raft_1:50051", ("raft_1", 50051)),
        ("a root dot", "example.org.:1", ("example.org.", 1)),
        ("IPv4", "10.0.0.1:1", ("10.0.0.1", 1)),
        ("IPv6 loses its brackets", "[::1]:65535", ("::1", 65535)),
        ("IPv6 with a zone", "[fe80::1%eth0]:9", ("fe80::1%eth0", 9)),
        ("no host is all interfaces", ":50051", ("", 50051)),
        ("port 0 is left to whoever listens", "localhost:0", ("localhost", 0)),
        ("blanks around it", "  localhost:7\t", ("localhost", 7)),
    ),
)
def test_an_address_is_split_into_host_and_port(text, expected):
    """Every form that the documentation names is understood."""
    assert expected == split_address(text)


@pytest.mark.parametrize(
    ("text", "why"),
    named(
        ("empty", "", "must have the form host:port"),
        ("no port", "localhost", "must have the form host:port"),
        ("an empty port", "localhost:", "number from 0 to 65535"),
        ("a port that gRPC would take modulo 65536", "localhost:99999", "number from 0 to 65535"),
        ("the first port that is too large", "localhost:65536", "number from 0 to 65535"),
        ("a negative port", "localhost:-1", "number from 0 to 65535"),
        ("a port with a sign", "localhost:+1", "number from 0 to 65535"),
        ("digits of another script", "localhost:\N{ARABIC-INDIC DIGIT ONE}", "number from 0"),
        ("a blank before the port", "localhost: 1", "number from 0 to 65535"),
        ("a name of a service", "localhost:http", "number from 0 to 65535"),
        ("IPv6 without brackets", "::1:50051", "must stand in brackets"),
        ("brackets around IPv4", "[10.0.0.1]:1", "must hold an IPv6 address"),
        ("brackets around nonsense", "[::g]:1", "must hold an IPv6 address"),
        ("empty brackets", "[]:1", "must hold an IPv6 address"),
        ("a URL", "http://localhost:1", "must be a name"),
        ("a path", "/run/raft.sock:1", "must be a name"),
        ("two ports", "localhost:1:2", "must be a name"),
        ("a blank in the host", "local host:1", "must be a name"),
        ("a list", "a:1,b:2", "must be a name"),
        ("IPv4 with a byte too large", "10.0.0.256:1", "must be a name"),
        ("IPv4 with a byte too few", "10.0.1:1", "must be a name"),
    ),
)
def test_what_is_no_address_is_refused(text, why):
    """The message quotes the address and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        split_address(text)
    (problem,) = caught.value.problems
    assert why in problem
    assert repr(text) in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    named(
        ("nothing is no address, not one empty one", "", ()),
        ("blanks are nothing", "  ", ()),
        ("commas are nothing", ",, ,", ()),
        ("one", "a:1", ("a:1",)),
        ("several, in order, with blanks and gaps", " b:2 ,,a:1,\n", ("b:2", "a:1")),
        ("twice is once, at the first place", "b:2,a:1,b:2", ("b:2", "a:1")),
        ("no host dials this host", ":50051", ("127.0.0.1:50051",)),
        ("a wildcard dials this host", "0.0.0.0:1,[::]:2", ("127.0.0.1:1", "127.0.0.1:2")),
        ("two spellings of one address", ":1,127.0.0.1:1", ("127.0.0.1:1",)),
        ("IPv6 keeps its brackets", "[2001:db8::1]:1", ("[2001:db8::1]:1",)),
    ),
)
def test_a_list_of_addresses_to_dial(text, expected):
    """Lists are read as people write them."""
    assert expected == parse_addresses(text)


def test_all_bad_addresses_of_a_list_are_named():
    """Nobody mends a list item by item; port 0 can't be dialled."""
    with pytest.raises(ConfigError) as caught:
        parse_addresses("a:1,b,c:0,d:99999")
    quoted = [item for item in ("'a:1'", "'b'", "'c:0'", "'d:99999'") if item in str(caught.value)]
    assert ["'b'", "'c:0'", "'d:99999'"] == quoted
    assert len(quoted) == len(caught.value.problems)


@pytest.mark.parametrize(
    ("host", "expected"),
    named(
        ("a name of this machine", "localhost", True),
        ("whatever its case", "LocalHost", True),
        ("the usual IPv4", "127.0.0.1", True),
        ("any of 127/8", "127.8.9.10", True),
        ("IPv6", "::1", True),
        ("a wildcard is more than loopback", "0.0.0.0", False),
        ("no host is more than loopback", "", False),
        ("a private network", "10.0.0.1", False),
        ("a name is not resolved", "loopback.example", False),
    ),
)
def test_loopback_hosts_are_told_from_others(host, expected):
    """Only what surely stays on this machine counts."""
    assert expected is addresses.is_loopback(host)


@given(st.ip_addresses() | st.sampled_from(["localhost", "a-b.c_d", ""]), st.integers(0, 65535))
def test_joining_undoes_splitting(host, port):
    """An address survives being taken apart and put together."""
    address = addresses.join_address(str(host), port)
    assert (str(host), port) == split_address(address)


# --- from the environment -----------------------------------------------------------------------


def test_only_the_data_directory_is_required():
    """Everything else has a default."""
    assert Config(data_dir=Path("/var/lib/Node-1")) == read()


def test_every_variable_fills_its_field():
    """All variables are read, with their units."""
    config = Config.from_env(
        {
            "NODE_ID": "node-1",
            "NODE_LISTEN_ADDR": "0.0.0.0:50052",
            "NODE_ADVERTISE_ADDR": "10.0.0.1:50052",
            "RAFT_BOOTSTRAP": "true",
            "RAFT_JOIN": "10.0.0.2:50051, 10.0.0.3:50051",
            "RAFT_VOTER": "yes",
            "RAFT_DATA_DIR": "Data/Node 1",
            "RAFT_TIMEOUT_MS": "250",
            "RAFT_MAX_COMMAND_BYTES": "1000",
            "RAFT_MAX_PENDING_COMMANDS": "20",
            "RAFT_MAX_PENDING_BYTES": "3000",
        }
    )
    expected = Config(
        node_id="node-1",
        listen_address="0.0.0.0:50052",
        advertise_address="10.0.0.1:50052",
        bootstrap=True,
        join=("10.0.0.2:50051", "10.0.0.3:50051"),
        voter=True,
        data_dir=Path("Data/Node 1"),
        timeout=0.25,
        max_command_bytes=1000,
        max_pending_commands=20,
        max_pending_bytes=3000,
    )
    assert expected == config
    assert () == config.warnings


def test_the_table_has_every_field_and_the_class_documents_each():
    """A new setting can't be forgotten in the README, the command line or the docstring."""
    settable = [field.name for field in fields(Config) if field.init]
    assert sorted(settable) == sorted(setting.field for setting in SETTINGS)
    text = inspect.getdoc(Config)  # from 3.13 on the compiler dedents it, before it does not
    assert [] == [s.variable for s in SETTINGS if f"``{s.variable}``" not in text]
    assert [] == [name for name in settable if f"\n    {name}: " not in text]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.default], ids=lambda s: s.variable)
def test_the_table_prints_the_defaults_that_count(setting):
    """A default written into its variable changes nothing."""
    explicit = read(**{setting.variable: setting.default})
    assert getattr(read(), setting.field) == getattr(explicit, setting.field)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
@pytest.mark.parametrize("variable", [s.variable for s in SETTINGS if s.field != "data_dir"])
def test_a_blank_variable_counts_as_unset(variable, blank):
    """Compose files set variables to nothing when they mean "not set"."""
    assert read() == read(**{variable: blank})


@pytest.mark.parametrize(
    ("environ", "found"),
    named(
        ("unset", {}, "RAFT_DATA_DIR (unset)"),
        ("empty", {"RAFT_DATA_DIR": ""}, "RAFT_DATA_DIR=''"),
        ("blank", {"RAFT_DATA_DIR": "  "}, "RAFT_DATA_DIR='  '"),
    ),
)
def test_without_a_data_directory_there_is_no_node(environ, found):
    """Data must not land where nobody looks for it."""
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environ)
    assert (f"{found}: is required; name a directory that outlives the node",) == (
        caught.value.problems
    )


@pytest.mark.parametrize("variable", ["RAFT_BOOTSTRAP", "RAFT_VOTER"])
@pytest.mark.parametrize(
    ("text", "expected"),
    named(
        *[(f"{text} is true", text, True) for text in ("true", "TRUE", "1", "Yes", "on", " on ")],
        *[(f"{text} is false", text, False) for text in ("false", "False", "0", "NO", "off")],
    ),
)
def test_a_flag_is_read_in_any_case(variable, text, expected):
    """The usual spellings are understood."""
    field = {s.variable: s.field for s in SETTINGS}[variable]
    assert expected is getattr(read(**{variable: text}), field)


@pytest.mark.parametrize(
    ("variable", "text", "why"),
    named(
        ("a flag that is neither", "RAFT_BOOTSTRAP", "maybe", "must be true or false"),
        ("a flag with another number", "RAFT_VOTER", "2", "must be true or false"),
        ("a timeout with a unit", "RAFT_TIMEOUT_MS", "3s", "must be a whole number"),
        ("a timeout with a fraction", "RAFT_TIMEOUT_MS", "100.5", "must be a whole number"),
        ("a negative timeout", "RAFT_TIMEOUT_MS", "-100", "must be a whole number"),
        ("a timeout with underscores", "RAFT_TIMEOUT_MS", "3_000", "must be a whole number"),
        ("a timeout just too short", "RAFT_TIMEOUT_MS", "49", "from 50 to 600000 milliseconds"),
        ("a timeout just too long", "RAFT_TIMEOUT_MS", "600001", "from 50 to 600000 milliseconds"),
        ("a number of 5000 digits", "RAFT_TIMEOUT_MS", "9" * 5000, "must be a whole number"),
        ("no command at all", "RAFT_MAX_COMMAND_BYTES", "0", "must be from 1 to"),
        ("a command that no message holds", "RAFT_MAX_COMMAND_BYTES", str(2**31), "from 1 to"),
        ("a size with a unit", "RAFT_MAX_PENDING_BYTES", "64MiB", "must be a whole number"),
        ("no pending command", "RAFT_MAX_PENDING_COMMANDS", "0", "must be from 1 to"),
        ("an id with a slash", "NODE_ID", "a/b", "letters, digits"),
        ("an id that begins with a dot", "NODE_ID", ".hidden", "beginning with a letter"),
        ("an id of 65 letters", "NODE_ID", "a" * 65, "1 to 64"),
        ("an id with a blank", "NODE_ID", "node 1", "letters, digits"),
        (
            "an id in another script",
            "NODE_ID",
            "kn\N{LATIN SMALL LETTER O WITH DIAERESIS}t",
            "1 to",
        ),
        ("a listener without a port", "NODE_LISTEN_ADDR", "localhost", "form host:port"),
        ("a listener's port modulo 65536", "NODE_LISTEN_ADDR", ":99999", "from 0 to 65535"),
        ("an advertised port 0", "NODE_ADVERTISE_ADDR", "10.0.0.1:0", "from 1 to 65535"),
        ("an advertised host alone", "NODE_ADVERTISE_ADDR", "10.0.0.1", "form host:port"),
        ("a port 0 to join", "RAFT_JOIN", "10.0.0.1:0", "from 1 to 65535"),
    ),
)
def test_what_can_not_be_used_is_refused(variable, text, why):
    """The problem names the variable, the value found and what would be right."""
    (problem,) = problems(**{variable: text})
    assert problem.startswith(f"{variable}={text!r}"[:60])
    assert why in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("variable", "text"),
    named(
        ("the shortest timeout", "RAFT_TIMEOUT_MS", "50"),
        ("the longest timeout", "RAFT_TIMEOUT_MS", "600000"),
        ("an id of one letter", "NODE_ID", "a"),
        ("an id of 64 letters", "NODE_ID", "a" * 64),
        ("a UUID", "NODE_ID", "0b5c1b8e-8f0e-4a4c-9d0c-5f4f1f1a2b3c"),
        ("a listener with port 0", "NODE_LISTEN_ADDR", "127.0.0.1:0"),
        ("the smallest command", "RAFT_MAX_COMMAND_BYTES", "1"),
    ),
)
def test_the_edges_of_what_is_allowed(variable, text):
    """The last value inside a bound is inside."""
    assert read(**{variable: text}) != read()


def test_all_problems_are_told_at_once():
    """One run shows everything that is wrong, in the order of the table."""
    with pytest.raises(ConfigError) as caught:
        Config.from_env(
            {
                "RAFT_TIMEOUT_MS": "fast",
                "NODE_ID": "a/b",
                "RAFT_VOTER": "perhaps",
                "NODE_LISTEN_ADDR": "nowhere",
                "RAFT_JOIN": "a:1,b,c:0",
                "RAFT_MAX_PENDING_BYTES": "5",
            }
        )
    named_in = {s.variable for s in SETTINGS if f"{s.variable}" in str(caught.value)}
    assert {
        "NODE_ID",
        "NODE_LISTEN_ADDR",
        "RAFT_JOIN",
        "RAFT_VOTER",
        "RAFT_DATA_DIR",
        "RAFT_TIMEOUT_MS",
        "RAFT_MAX_PENDING_BYTES",
    } == named_in
    assert len(named_in) == len(caught.value.problems)


def test_pending_bytes_have_room_for_the_longest_command():
    """Else the longest allowed command could never be taken."""
    assert ("RAFT_MAX_PENDING_BYTES='99': must be at least the longest command, 100",) == problems(
        RAFT_MAX_COMMAND_BYTES="100", RAFT_MAX_PENDING_BYTES="99"
    )
    equal = read(RAFT_MAX_COMMAND_BYTES="100", RAFT_MAX_PENDING_BYTES="100")
    assert 100 == equal.max_pending_bytes


def test_a_value_that_can_not_be_read_collides_with_nothing():
    """Its default was not meant, so no second problem is made of it."""
    (problem,) = problems(RAFT_MAX_COMMAND_BYTES="1k", RAFT_MAX_PENDING_BYTES="5000")
    assert problem.startswith("RAFT_MAX_COMMAND_BYTES='1k'")


def test_a_default_that_collides_is_told_with_its_value():
    """Who set only one of two is told what the other one is."""
    expected = f"RAFT_MAX_PENDING_BYTES (unset, so {64 * MIB}): must be at least"
    (problem,) = problems(RAFT_MAX_COMMAND_BYTES=str(65 * MIB))
    assert problem.startswith(expected)


# --- what is advertised -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "bound_port", "expected"),
    named(
        (
            "an own address is taken as it is",
            {"NODE_ADVERTISE_ADDR": "node-1:9", "RAFT_JOIN": "node-2:9"},
            50051,
            "node-1:9",
        ),
        (
            "unset follows the listener",
            {"NODE_LISTEN_ADDR": "10.0.0.1:7", "RAFT_JOIN": "10.0.0.2:7"},
            7,
            "10.0.0.1:7",
        ),
        (
            "the system's port is told",
            {"NODE_LISTEN_ADDR": "10.0.0.1:0", "RAFT_JOIN": "10.0.0.2:7"},
            41234,
            "10.0.0.1:41234",
        ),
        ("IPv6 keeps its brackets", {"NODE_LISTEN_ADDR": "[fd00::1]:0"}, 5, "[fd00::1]:5"),
        ("loopback stays loopback", {"NODE_LISTEN_ADDR": "localhost:0"}, 5, "localhost:5"),
    ),
)
def test_the_advertised_address(variables, bound_port, expected):
    """An address that names a host is advertised without a word."""
    config = read(**variables)
    assert expected == config.advertised(bound_port)
    assert () == config.warnings


@pytest.mark.parametrize(
    "join",
    named(
        ("nobody", ""),
        ("this host", ":50051,:50052"),
        ("loopback in every form", "localhost:1,127.0.0.2:1,[::1]:1"),
    ),
)
@pytest.mark.parametrize(
    "wildcard",
    named(
        ("by default", {}),
        ("as Go writes it", {"NODE_ADVERTISE_ADDR": ":50051"}),
        ("all of IPv4", {"NODE_LISTEN_ADDR": "0.0.0.0:50051"}),
        ("all of IPv6", {"NODE_ADVERTISE_ADDR": "[::]:50051"}),
    ),
)
def test_a_wildcard_is_advertised_as_loopback_where_nobody_is_far(wildcard, join):
    """A cluster on one machine starts with `:port` alone, and is told what that means."""
    config = read(**wildcard, RAFT_JOIN=join)
    assert "127.0.0.1:50051" == config.advertised(50051)
    (warning,) = config.warnings
    assert warning.startswith("NODE_ADVERTISE_ADDR: ")
    assert "127.0.0.1 is advertised" in warning


@pytest.mark.parametrize(
    "wildcard",
    named(
        ("by default", {}),
        ("as Go writes it", {"NODE_ADVERTISE_ADDR": ":50051"}),
        ("all of IPv4", {"NODE_ADVERTISE_ADDR": "0.0.0.0:50051"}),
        ("all of IPv6", {"NODE_LISTEN_ADDR": "[::]:50051"}),
    ),
)
def test_a_wildcard_is_refused_where_members_are_far(wildcard):
    """They would dial themselves."""
    (problem,) = problems(**wildcard, RAFT_JOIN="127.0.0.1:50052,10.0.0.2:50051")
    assert problem.startswith("NODE_ADVERTISE_ADDR")
    assert "10.0.0.1:50051" in problem


def test_loopback_advertised_to_far_members_is_warned_about():
    """It may be a tunnel; more likely they will dial themselves."""
    (warning,) = read(NODE_LISTEN_ADDR="127.0.0.1:50051", RAFT_JOIN="10.0.0.2:1").warnings
    assert warning.startswith("NODE_ADVERTISE_ADDR: '127.0.0.1:50051'")


# --- warnings -----------------------------------------------------------------------------------


def warned(**variables: str) -> tuple[str, ...]:
    return read(NODE_LISTEN_ADDR="127.0.0.1:50051", **variables).warnings


@pytest.mark.parametrize(
    ("name", "near"),
    named(
        ("a forgotten unit", "RAFT_TIMEOUT", "RAFT_TIMEOUT_MS"),
        ("a missing underscore", "RAFT_DATADIR", "RAFT_DATA_DIR"),
        ("a plural", "RAFT_VOTERS", "RAFT_VOTER"),
        ("lower case", "raft_join", "RAFT_JOIN"),
        ("a near miss in NODE_", "NODE_LISTEN_ADDRESS", "NODE_LISTEN_ADDR"),
        ("another near miss in NODE_", "NODE_ADVERTISED_ADDR", "NODE_ADVERTISE_ADDR"),
    ),
)
def test_a_misspelt_variable_is_warned_about(name, near):
    """A typo is silent nowhere."""
    expected = f"{name} is no setting of tinyraft and was ignored; did you mean {near}?"
    assert (expected,) == warned(**{name: "1"})


def test_an_unknown_variable_like_no_other_is_warned_about_without_a_guess():
    """A wrong hint is worse than none."""
    assert ("RAFT_X is no setting of tinyraft and was ignored",) == warned(RAFT_X="1")


@pytest.mark.parametrize(
    "name", ["NODE_ENV", "NODE_PATH", "NODE_IP", "NODE_NAME", "PATH", "RAFTER"]
)
def test_variables_of_others_are_nobodys_business(name):
    """Node.js and Kubernetes have theirs."""
    assert () == warned(**{name: "1"})


def test_a_tilde_is_not_expanded_and_said():
    """The shell expands it, a `.env` file does not."""
    config = read(RAFT_DATA_DIR="~/raft", NODE_LISTEN_ADDR="localhost:1")
    assert Path("~/raft") == config.data_dir
    assert ("RAFT_DATA_DIR: '~' is not expanded; the directory is '~/raft'",) == config.warnings


def test_warnings_are_neither_compared_nor_shown():
    """Two nodes with equal settings are equal, whatever else is in their environments."""
    assert read() == read(RAFT_X="1")
    assert hash(read()) == hash(read(RAFT_X="1"))
    assert "RAFT_X" not in repr(read(RAFT_X="1"))


# --- .env ---------------------------------------------------------------------------------------


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text('RAFT_DATA_DIR="/Data"\nNODE_ID=from-file\nRAFT_VOTER=true\nRAFT_JOIN\n')
    return path


def test_a_dotenv_file_fills_what_the_environment_leaves_open(dotenv):
    """The environment always wins."""
    config = Config.from_env({"NODE_ID": "from-environment"}, dotenv=dotenv)
    assert Config(data_dir=Path("/Data"), node_id="from-environment", voter=True) == config


def test_a_blank_variable_hides_the_one_in_the_file(dotenv):
    """So a deployment can take a setting back without editing the file."""
    assert "" == Config.from_env({"NODE_ID": ""}, dotenv=dotenv).node_id


def test_the_nearest_dotenv_upwards_is_found(dotenv, monkeypatch):
    """From the current directory, not from the file that calls."""
    deep = dotenv.parent / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert "from-file" == Config.from_env({}, dotenv=True).node_id


def test_without_being_asked_no_file_is_read(dotenv, monkeypatch):
    """A library does not pick up files by itself."""
    monkeypatch.chdir(dotenv.parent)
    assert "" == Config.from_env(LEAST).node_id
    assert "" == Config.from_env(LEAST, dotenv=False).node_id


def test_no_dotenv_anywhere_is_fine(tmp_path, monkeypatch):
    """`dotenv=True` means "if there is one"."""
    monkeypatch.setattr("tinyraft.config.find_dotenv", lambda *, usecwd: "")
    assert read() == Config.from_env(LEAST, dotenv=True)


@pytest.mark.parametrize(
    "make",
    named(
        ("it is missing", lambda path: None),
        ("it is a directory", lambda path: path.mkdir()),
        ("it is no text", lambda path: path.write_bytes(b"NODE_ID=\xff\n")),
    ),
)
def test_a_named_dotenv_that_can_not_be_read_is_an_error(tmp_path, make):
    """A misspelt path must not start a node with defaults."""
    path = tmp_path / "settings.env"
    make(path)
    with pytest.raises(ConfigError, match=r"settings\.env.*can't be read"):
        Config.from_env(LEAST, dotenv=path)


def test_a_byte_order_mark_does_not_hide_the_first_variable(tmp_path):
    """Some editors write one."""
    path = tmp_path / "settings.env"
    path.write_bytes(b"\xef\xbb\xbfNODE_ID=first\n")
    assert "first" == Config.from_env(LEAST, dotenv=str(path)).node_id


def test_problems_and_warnings_of_a_file_name_its_variables(tmp_path):
    """A value is as bad from a file as from the environment."""
    path = tmp_path / "settings.env"
    path.write_text("RAFT_TIMEOUT_MS=1\n")
    with pytest.raises(ConfigError, match=r"^RAFT_TIMEOUT_MS='1': must be from 50"):
        Config.from_env(LEAST, dotenv=path)
    path.write_text("RAFT_TIMEOUT=1\n")
    config = Config.from_env(LEAST, dotenv=path)
    assert "RAFT_TIMEOUT is no setting of tinyraft" in config.warnings[-1]


def test_the_process_environment_is_read_and_left_alone(dotenv, monkeypatch):
    """No variable of a `.env` file leaks to child processes."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("NODE_ID", "from-process")
    before = dict(os.environ)
    config = Config.from_env(dotenv=dotenv)
    assert ("from-process", True) == (config.node_id, config.voter)
    assert before == dict(os.environ)


# --- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "why"),
    named(
        ("a text for a flag, which would be true", "bootstrap", "false", "type bool, not str"),
        ("a number for a flag", "voter", 1, "type bool, not int"),
        ("a text for a list, which would be letters", "join", "a:1", "type tuple or list, not str"),
        ("a number in a list", "join", (1,), "type str, not int"),
        ("a bad address in a list", "join", ("a:1", "b"), "'b' must have the form"),
        ("a flag for a number", "max_pending_commands", True, "type int, not bool"),
        ("a fraction for a count", "max_command_bytes", 1.5, "type int, not float"),
        ("a text for a timeout", "timeout", "3", "type int or float, not str"),
        ("milliseconds for seconds", "timeout", 3000, "0.05 to 600 seconds"),
        ("not a number", "timeout", float("nan"), "0.05 to 600 seconds"),
        ("infinity", "timeout", float("inf"), "0.05 to 600 seconds"),
        ("a number beyond floats", "timeout", 10**400, "0.05 to 600 seconds"),
        ("None for a text", "node_id", None, "type str, not NoneType"),
        ("None for a directory", "data_dir", None, "type str or Path, not NoneType"),
        ("a blank directory", "data_dir", " ", "must name a directory"),
        ("a bad id", "node_id", "a/b", "letters, digits"),
        ("a number for an address", "listen_address", 50051, "type str, not int"),
        ("a bad listener", "listen_address", ":65536", "from 0 to 65535"),
        ("a bad advertised address", "advertise_address", "x", "form host:port"),
    ),
)
def test_a_config_made_by_hand_is_checked_too(field, value, why):
    """A `Config` that exists is valid, whoever made it."""
    with pytest.raises(ConfigError) as caught:
        Config(**{"data_dir": Path("data"), field: value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{field}={value!r}"[:60])
    assert why in problem


def test_by_hand_all_problems_are_told_at_once():
    """As from the environment."""
    with pytest.raises(ConfigError) as caught:
        Config(data_dir=Path("data"), timeout=0, join=("10.0.0.2:1",), max_pending_bytes=1)
    assert ["timeout", "advertise_address", "max_pending_bytes"] == [
        problem.partition("=")[0] for problem in caught.value.problems
    ]


def test_values_are_kept_in_one_form():
    """Blanks go, lists become tuples, texts become paths."""
    config = Config(
        data_dir="data",  # type: ignore[arg-type]
        node_id=" a ",
        listen_address=" :1 ",
        advertise_address=" a:1 ",
        join=[" b:1", "b:1 "],  # type: ignore[arg-type]
        timeout=1,
    )
    assert (Path("data"), "a", ":1", "a:1", ("b:1",)) == (
        config.data_dir,
        config.node_id,
        config.listen_address,
        config.advertise_address,
        config.join,
    )
    assert float is type(config.timeout)


def test_a_config_can_not_be_changed_but_copied():
    """A copy with changes is checked again."""
    config = Config(data_dir=Path("data"))
    with pytest.raises(FrozenInstanceError):
        config.timeout = 1.0  # type: ignore[misc]
    assert 1.0 == replace(config, timeout=1.0).timeout
    with pytest.raises(ConfigError):
        replace(config, timeout=0)


def test_overrides_win_over_variables_which_are_not_even_looked_at():
    """A program's own flags come first, and mend a broken environment."""
    config = Config.from_env(
        {"RAFT_TIMEOUT_MS": "broken", "NODE_ID": "b"}, timeout=1.0, data_dir=Path("data")
    )
    assert Config(data_dir=Path("data"), node_id="b", timeout=1.0) == config


def test_a_bad_override_is_told_by_its_field():
    """Not by the variable that was not looked at."""
    with pytest.raises(ConfigError, match=r"^timeout=0: must be from"):
        Config.from_env({**LEAST, "RAFT_TIMEOUT_MS": "100"}, timeout=0)


def test_an_unknown_override_is_a_mistake_in_the_program():
    """As for any other argument that a function does not have."""
    with pytest.raises(TypeError, match="colour"):
        Config.from_env(LEAST, colour="red")


def test_a_long_value_is_quoted_in_part():
    """An error message stays readable."""
    (problem,) = problems(NODE_ID="x" * 5000)
    assert len(problem) < 250
    assert "..." in problem
