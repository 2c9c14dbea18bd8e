"""What mypy must say about `Config`: this file is checked, never run."""

from pathlib import Path
from typing import assert_type

from tinyraft.config import Config, parse_addresses, split_address

config = Config(data_dir=Path("data"), join=("10.0.0.1:50051",), timeout=1)
assert_type(config.data_dir, Path)
assert_type(config.join, tuple[str, ...])
assert_type(config.timeout, float)
assert_type(config.warnings, tuple[str, ...])
assert_type(config.advertised(50051), str)
assert_type(Config.from_env({}, dotenv=True, data_dir=Path("data")), Config)
assert_type(Config.from_env(dotenv=Path(".env")), Config)
assert_type(split_address("a:1"), tuple[str, int])
assert_type(parse_addresses("a:1"), tuple[str, ...])

Config()  # type: ignore[call-arg]
Config(Path("data"))  # type: ignore[call-arg]
Config(data_dir=Path("data"), join="10.0.0.1:50051")  # type: ignore[arg-type]
Config(data_dir=Path("data"), warnings=())  # type: ignore[call-arg]
config.timeout = 2.0  # type: ignore[misc]
