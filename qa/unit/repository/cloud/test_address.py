"""Addresses and credentials of object stores, in the forms that Triton takes."""

import json

import pytest

from tritium.repository.cloud.address import AddressError, CloudAddress, is_cloud, parse_address
from tritium.repository.cloud.credentials import CredentialError, Credentials, find_credentials


@pytest.mark.parametrize(
    ("text", "kind", "bucket", "prefix", "endpoint", "account"),
    [
        ("s3://b", "s3", "b", "", "", ""),
        ("s3://b/a/c/", "s3", "b", "a/c", "", ""),
        ("s3://b//a///c", "s3", "b", "a/c", "", ""),
        ("s3://host:9000/b/a", "s3", "b", "a", "http://host:9000", ""),
        ("s3://127.0.0.1:9000/b", "s3", "b", "", "http://127.0.0.1:9000", ""),
        ("s3://https://host:9000/b/a", "s3", "b", "a", "https://host:9000", ""),
        ("s3://https://s3.example.com/b/a", "s3", "b", "a", "https://s3.example.com", ""),
        ("s3://http://host:9000/b", "s3", "b", "", "http://host:9000", ""),
        ("gs://b/models", "gs", "b", "models", "", ""),
        ("as://account/container/models", "as", "container", "models", "", "account"),
        ("as://account.blob.core.windows.net/container", "as", "container", "", "", "account"),
    ],
)
def test_forms_of_addresses(text, kind, bucket, prefix, endpoint, account):
    """Each kind has its own, and slashes too many do no harm."""
    assert is_cloud(text)
    assert parse_address(text) == CloudAddress(text.rstrip("/"), kind, bucket, prefix, endpoint, account)


@pytest.mark.parametrize("text", ["s3://", "s3://host:9000/", "gs:///models", "as://account", "as:///container"])
def test_an_address_needs_a_bucket(text):
    """What is missing is named, with the form."""
    with pytest.raises(AddressError, match=r"names no (bucket|container); write "):
        parse_address(text)


def test_credentials_from_the_environment(tmp_path):
    """A key of its own goes before a profile of the AWS command line."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[big]\naws_access_key_id = p\naws_secret_access_key = q\n")
    (tmp_path / ".aws" / "config").write_text("[profile big]\nregion = eu-west-1\n")
    s3, home = parse_address("s3://b/m"), {"HOME": str(tmp_path)}
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    region = {"AWS_DEFAULT_REGION": "us-west-2"}
    assert find_credentials(s3, home | keys | region) == Credentials("k", "s", "t", "us-west-2")
    assert find_credentials(s3, home | keys | {"AWS_PROFILE": "big"}) == Credentials("p", "q", "", "eu-west-1")
    assert find_credentials(s3, home) == Credentials()
    google = find_credentials(parse_address("gs://b"), {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"})
    assert google == Credentials(google_file="/key.json")
    azure = {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": "k"}
    assert find_credentials(parse_address("as://a/c"), azure) == Credentials(account="a", secret="k")


def test_credentials_from_a_file(tmp_path):
    """The entry of the longest address that the repository's begins with is taken; the environment is not asked."""
    file = tmp_path / "credentials.json"
    document = {
        "s3": {
            "": {"key_id": "general", "secret_key": "g", "region": "r"},
            "s3://one": {"key_id": "one", "secret_key": "o"},
            "s3://one/deep": {"key_id": "deep", "secret_key": "d", "session_token": "t"},
        },
        "gs": {"gs://only": "/key.json"},
        "as": {"": {"account_str": "a", "account_key": "k"}},
    }
    file.write_text(json.dumps(document))
    environment = {"TRITON_CLOUD_CREDENTIAL_PATH": str(file), "AWS_ACCESS_KEY_ID": "not this"}

    def found(address):
        return find_credentials(parse_address(address), environment)

    assert found("s3://two/m") == Credentials("general", "g", "", "r")
    assert found("s3://one/m") == Credentials("one", "o")
    assert found("s3://one/deep/m") == Credentials("deep", "d", "t")
    assert found("gs://only/m").google_file == "/key.json"
    assert found("gs://other/m") == Credentials()
    assert found("as://x/c") == Credentials(account="a", secret="k")


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ('{"s3": []}', "should be like"), ("[]", "like")])
def test_a_file_that_cannot_be_read(tmp_path, text, message):
    """It is named; what is in it is not shown."""
    file = tmp_path / "credentials.json"
    file.write_text(text)
    with pytest.raises(CredentialError, match=message):
        find_credentials(parse_address("s3://b"), {"TRITON_CLOUD_CREDENTIAL_PATH": str(file)})
    file.unlink()
    with pytest.raises(CredentialError, match="cannot read"):
        find_credentials(parse_address("s3://b"), {"TRITON_CLOUD_CREDENTIAL_PATH": str(file)})


def test_secrets_are_not_shown():
    """A traceback or a log line that shows credentials shows none."""
    assert "secret" not in repr(Credentials("key", "secret"))
