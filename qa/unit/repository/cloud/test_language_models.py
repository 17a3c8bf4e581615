"""Language models whose model.json names a folder in an object store."""

import pytest

from tritium.core.errors import InvalidArgument, Unavailable
from tritium.llm.model_files import ModelFiles
from tritium.llm.sources import ModelSources


def _files(tmp_path, address):
    return ModelFiles({"model": address}, tmp_path / "1")


def test_a_model_is_fetched_from_a_store(bucket, tmp_path):
    """The whole folder is copied, and downloaded again only once it has changed."""
    bucket.put("models/tiny/tokenizer.json", "{}")
    bucket.put("models/tiny/nested/model.safetensors", "weights")
    bucket.put("models/other/tokenizer.json", "{}")
    address = f"{bucket.address}/models/tiny"
    sources = ModelSources(tmp_path / "cache")
    folder = sources.from_store(f"{address}/")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "nested/model.safetensors",
        "tokenizer.json",
    ]
    assert sources.tokenizer_folder(_files(tmp_path, address), address) == folder
    bucket.put("models/tiny/tokenizer.json", '{"new": 1}')
    assert (sources.from_store(address) / "tokenizer.json").read_text() == '{"new": 1}'
    sources.close()


def test_what_is_wrong_with_a_store_is_said(bucket, tmp_path):
    """A folder that is not there, and an address of none, are told with what to do."""
    sources = ModelSources(tmp_path / "cache")
    with pytest.raises(Unavailable, match=r"models/absent cannot be fetched: no files of model 'absent'"):
        sources.from_store(f"{bucket.address}/models/absent")
    with pytest.raises(InvalidArgument, match="names no folder of a model"):
        sources.from_store("s3://bucket")
