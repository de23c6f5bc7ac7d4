from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from putgate_protocol.parts import MIB
from putgate_protocol.settings import api, daemon
from putgate_protocol.settings.api import ApiSettings
from putgate_protocol.settings.daemon import DaemonSettings
from putgate_protocol.settings.load import SettingsError, load
from putgate_protocol.settings.quantities import parse_duration, parse_size

API = """
storage:
  s3: {provider: SeaweedFS, bucket: files, endpoint: "http://127.0.0.1:8333"}
upload_keys: {file: /keys}
"""

DAEMON = """
server: {url: "http://127.0.0.1:8080"}
folders: [{path: /in}]
journal: /var/j
"""


def read_api(text: str = API, **environment: str) -> ApiSettings:
    return load(ApiSettings, text, origin="api.yaml", environment=environment, env_prefix=api.ENV_PREFIX)


def read_daemon(text: str = DAEMON, **environment: str) -> DaemonSettings:
    return load(DaemonSettings, text, origin="daemon.yaml", environment=environment, env_prefix=daemon.ENV_PREFIX)


def lines(text: str, **environment: str) -> list[str]:
    """What is wrong, line by line."""
    with pytest.raises(SettingsError) as caught:
        read_api(text, **environment)
    return str(caught.value).splitlines()


def test_a_short_file_is_enough() -> None:
    settings = read_api()
    assert settings.storage.s3.bucket == "files"
    assert settings.upload.part_size == 8 * MIB
    assert settings.storage.management == "Adopt"
    assert settings.auth.token_file is None
    assert read_daemon().folders[0].settle == timedelta(seconds=2)


@pytest.mark.parametrize("scope", ["Owner", "Bucket", "Disabled"])
def test_whose_content_is_found_has_three_answers(scope: str) -> None:
    assert read_api().instant_upload.scope == "Owner"
    assert read_api(API + f"instant_upload: {{scope: {scope}}}").instant_upload.scope == scope
    assert "instant_upload.scope" in lines(API + f"instant_upload: {{scope: {scope.lower()}}}")[0]


def test_what_follows_from_a_store_that_enforces_nothing_has_two_answers() -> None:
    assert read_api().integrity.mode == "Enforced"
    assert read_api(API + "integrity: {mode: Unverified}").integrity.mode == "Unverified"
    assert "integrity.mode" in lines(API + "integrity: {mode: unverified}")[0]


def test_the_environment_wins_and_is_nested() -> None:
    settings = read_api(
        PUTGATE_API_STORAGE__S3__BUCKET="other",
        PUTGATE_API_UPLOAD__PART_SIZE="16Mi",
        PUTGATE_API_LISTEN__PORT="9000",
        PUTGATE_API_UPLOAD__ALLOWED_CONTENT_TYPES="[text/plain, image/png]",
        UNRELATED="x",
    )
    assert (settings.storage.s3.bucket, settings.listen.port) == ("other", 9000)
    assert settings.upload.part_size == 16 * MIB
    assert settings.upload.allowed_content_types == ["text/plain", "image/png"]


def test_the_environment_alone_is_enough() -> None:
    settings = read_api(
        "",
        PUTGATE_API_STORAGE__S3__BUCKET="files",
        PUTGATE_API_STORAGE__S3__ENDPOINT="http://127.0.0.1:1",
        PUTGATE_API_UPLOAD_KEYS__FILE="/keys",
    )
    assert settings.upload_keys.file == Path("/keys")


def test_the_environment_fills_an_empty_group() -> None:
    assert read_api(API + "listen:\n", PUTGATE_API_LISTEN__PORT="1234").listen.port == 1234


@pytest.mark.parametrize(
    ("extra", "place"),
    [
        ("uploads: {}", "uploads"),
        ("upload: {part_sise: 1}", "upload.part_sise"),
        ("listen: {proxy: {cert: x}}", "listen.proxy"),
    ],
)
def test_an_unknown_key_is_named_with_its_place(extra: str, place: str) -> None:
    assert lines(API + extra) == [f"api.yaml: {place}: unknown key"]


def test_an_unknown_variable_is_named() -> None:
    assert lines(API, PUTGATE_API_LISTEN__PROT="1") == ["$PUTGATE_API_LISTEN__PROT: listen.prot: unknown key"]


def test_a_bad_value_is_laid_to_who_said_it() -> None:
    found = lines(API + "listen: {port: 70000}", PUTGATE_API_LISTEN__ADMIN_PORT="x")
    assert len(found) == 2
    assert found[0].startswith("api.yaml: listen.port: ")
    assert found[1].startswith("$PUTGATE_API_LISTEN__ADMIN_PORT: listen.admin_port: ")


def test_everything_wrong_is_said_at_once() -> None:
    found = lines("storage: {s3: {bucket: B}}\nunknown: 1")
    assert {line.split(": ")[1] for line in found} == {"storage.s3.bucket", "upload_keys", "unknown"}


def test_a_secret_value_is_never_repeated() -> None:
    assert "hunter2" not in "\n".join(lines(API + "auth: {token: hunter2}\nlisten: {port: hunter2}"))


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("upload: {part_size: 5242879}", "5Mi"),
        ("upload: {part_size: 1Ti}", "1Gi"),
        ("upload: {part_size: -8Mi}", "whole number of bytes"),
        ("upload: {part_size: true}", "whole number of bytes"),
        ("upload: {max_object_size: 0}", "max_object_size"),
        ("upload: {max_object_size: 6Ti}", "5Ti"),
        ("upload: {url_ttl: 9s}", "10s"),
        ("upload: {url_ttl: 16m}", "15m"),
        ("upload: {url_ttl: 15}", "1h30m"),
        ("upload: {session_ttl: 14m}", "session_ttl"),
        ("upload: {session_ttl: 169h}", "168h"),
        ("upload: {session_ttl: 99999999999999999999h}", "1h30m"),
        ("download: {url_ttl: 13h}", "12h"),
        ("layout: Content", "Path"),
        ("listen: {public_url: 'http://h/?q'}", "listen.public_url"),
    ],
)
def test_bounds(extra: str, says: str) -> None:
    assert says in "\n".join(lines(API + extra))


@pytest.mark.parametrize(
    "s3",
    [
        "{bucket: files}",
        "{bucket: ab, endpoint: 'http://h'}",
        "{bucket: Files, endpoint: 'http://h'}",
        "{bucket: files, endpoint: 'http://u:p@h'}",
        "{bucket: files, endpoint: 'http://h/path'}",
        "{bucket: files, endpoint: 'ftp://h'}",
        "{bucket: files, endpoint: 'http://my_store:9000'}",
        "{bucket: files, endpoint: 'http://store:99999'}",
        "{bucket: files, endpoint: 'http://store', public_endpoint: 'http://-h'}",
        "{bucket: files, endpoint: 'http://h', credentials: {type: Files}}",
        "{bucket: files, endpoint: 'http://h', provider: Amazon}",
    ],
)
def test_stores_that_are_refused(s3: str) -> None:
    assert all("storage.s3" in line for line in lines(f"storage: {{s3: {s3}}}\nupload_keys: {{file: /keys}}"))


def test_aws_needs_no_endpoint() -> None:
    assert (
        read_api("storage: {s3: {provider: AWS, bucket: files}}\nupload_keys: {file: /k}").storage.s3.endpoint is None
    )


@pytest.mark.parametrize("prefix", ["a", "/a/", "a//b/", ".putgate/", "a\\b/"])
def test_prefixes_are_checked(prefix: str) -> None:
    text = yaml.safe_dump({**yaml.safe_load(API), "storage": {**yaml.safe_load(API)["storage"], "prefix": prefix}})
    assert lines(text)[0].startswith("api.yaml: storage.prefix: ")


@pytest.mark.parametrize("text", ["[1, 2]", "just text", "5"])
def test_a_file_that_is_no_mapping(text: str) -> None:
    assert "not a mapping" in lines(text)[0]


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\t- x", "a: !!python/object:os.system {}"])
def test_a_file_that_is_no_yaml_names_line_and_column(text: str) -> None:
    assert re.match(r"api\.yaml: line [12], column ", lines(text)[0])


def test_a_variable_that_is_no_yaml_is_named() -> None:
    assert lines(API, PUTGATE_API_LISTEN__HOST="[")[0].startswith("$PUTGATE_API_LISTEN__HOST: ")


def test_a_variable_below_a_value() -> None:
    assert "not a group" in lines(API + "layout: Path", PUTGATE_API_LAYOUT__X="1")[0]


@pytest.mark.parametrize("text", ["1: x", "~: x", "[a]: x", "? {a: b}\n: x"])
def test_odd_keys_are_errors_too(text: str) -> None:
    assert lines(API + text)


def test_daemon_folders() -> None:
    for folders, says in [
        ("[]", "folders"),
        ("[{path: relative}]", "absolute"),
        ("[{path: /a}, {path: /a}]", "named twice"),
        ("[{path: /a, prefix: x}]", "folders.0.prefix"),
        ("[{path: /a, settle: 2h}]", "settle"),
        ("[{path: /a, rescan: 0s}]", "rescan"),
        ("[{path: /a, colour: red}]", "folders.0.colour"),
    ]:
        with pytest.raises(SettingsError, match=says):
            read_daemon(f"server: {{url: 'http://h'}}\njournal: /j\nfolders: {folders}")


def test_what_is_written_is_what_is_read() -> None:
    before = read_api(API + "upload: {url_ttl: 90s, session_ttl: 604799500ms}")
    assert read_api(yaml.safe_dump(before.model_dump(mode="json"))) == before
    folders = read_daemon(DAEMON + "health: {port: 0}")
    assert read_daemon(yaml.safe_dump(folders.model_dump(mode="json"))) == folders


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1k", 1000), ("1Ki", 1024), ("8Mi", 8 * MIB), (" 5Gi ", 5 * 1024 * MIB), ("5Ti", 5 * 1024**4), (7, 7)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "Mi", "1.5Mi", "-1", "1 Mi", "1KI", "1K", "1mi", "٣", "9" * 20, None, 1.5, True])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15m", 900), ("1h30m", 5400), ("2.5s", 2.5), ("500ms", 0.5), ("1h1m1s1ms", 3661.001), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", " ", "5", "1d", "1m1h", "-1s", "1.5m", "٣s", "9" * 30 + "h", None, 5, 1.5])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=365)))
def test_a_duration_is_written_as_it_is_read(value: timedelta) -> None:
    folder = daemon.Folder.model_construct(path=Path("/a"), settle=value)
    assert parse_duration(folder.model_dump(mode="json")["settle"]) == value


def test_origins_are_exact_or_all() -> None:
    assert read_api().cors.allowed_origins == []
    assert read_api().storage.cors.allowed_origins == []
    good = [
        "https://app.example.com",
        "http://localhost:3000",
        "http://127.0.0.1:1",
        "http://[::1]:8080",
        "capacitor://localhost",
    ]
    assert read_api(API + f"cors: {{allowed_origins: {good}}}").cors.allowed_origins == good
    assert read_api(API + 'cors: {allowed_origins: ["*"]}').cors.allowed_origins == ["*"]
    inside = API.replace("storage:", 'storage:\n  cors: {allowed_origins: ["*"]}')
    assert read_api(inside).storage.cors.allowed_origins == ["*"]


@pytest.mark.parametrize(
    "origins",
    [
        ["app.example.com"],
        ["https://app.example.com/"],
        ["https://App.example.com"],
        ["https://app.example.com:443"],
        ["http://app.example.com:80"],
        ["https://*.example.com"],
        ["https://user@app.example.com"],
        ["null"],
        ["*", "https://app.example.com"],
        ["https://a.example", "https://a.example"],
        ["https://a.example:99999999"],
        ["https://a.example\nX: y"],
    ],
    ids=str,
)
def test_what_no_browser_sends_is_no_origin(origins: list[str]) -> None:
    text = yaml.safe_dump(yaml.safe_load(API) | {"cors": {"allowed_origins": origins}})
    assert "cors.allowed_origins" in lines(text)[0]
