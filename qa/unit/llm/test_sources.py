import http.server
import json
import threading

import pytest

from tritium.core.errors import InvalidArgument
from tritium.llm.model_files import ModelFiles
from tritium.llm.sources import ModelSources
from tritium.llm.tokenizer import Tokenizer

COMMIT = "c" * 40


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download of some files needs."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        files, path = self.server.files, self.path.split("?")[0].removeprefix("/")
        self.server.asked.append(path)
        name = "team/tiny"
        if path == f"api/models/{name}/revision/main":
            siblings = [{"rfilename": file} for file in files]
            return self._answer(json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
        if path.startswith(f"api/models/{name}/tree/"):
            tree = [{"type": "file", "path": file, "size": len(data), "oid": "0" * 40} for file, data in files.items()]
            return self._answer(json.dumps(tree).encode())
        if path.startswith(f"{name}/resolve/"):
            file = path.split("/", 4)[4]
            if file in files:
                return self._answer(files[file], {"ETag": f'"{len(files[file])}-{file}"', "X-Repo-Commit": COMMIT})
        kind = "GatedRepo" if "gated" in path else "RepoNotFound"
        return self._answer(b"{}", {"X-Error-Code": kind}, status=403 if kind == "GatedRepo" else 404)

    do_HEAD = do_GET  # noqa: N815  http.server's name

    def _answer(self, data, headers=None, status=200):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture
def hub(scripted, monkeypatch, tmp_path):
    """A hub with one model, an empty cache, and the files that were asked for."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.daemon_threads = True
    server.asked = []
    server.files = {
        "tokenizer.json": scripted.byte_level().to_str().encode(),
        "additional_chat_templates/rag.jinja": b"R",
        "chat_template.jinja": b"D",
        "model.safetensors": b"weights",
    }
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _files(tmp_path, model="team/tiny", **arguments):
    return ModelFiles({"model": model, **arguments}, tmp_path / "1")


def test_a_tokenizer_is_fetched_from_the_hub_once(hub, tmp_path):
    """All but the weights is fetched by the hub's name, and found in the cache from then on, offline too."""
    files = _files(tmp_path)
    folder = ModelSources().tokenizer_folder(files, "team/tiny")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.templates.choose("rag").render([]) == "R"
    assert not (folder / "model.safetensors").exists()
    asked = len(hub.asked)
    assert ModelSources().tokenizer_folder(files, "team/tiny") == folder
    assert len(hub.asked) == asked


def test_offline_nothing_is_fetched(hub, tmp_path, monkeypatch):
    """With HF_HUB_OFFLINE the hub is not asked; the message names the cache and says what to do."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        InvalidArgument, match=r"cache, .*cache; HF_HUB_OFFLINE is set, so nothing is fetched"
    ) as refused:
        ModelSources().tokenizer_folder(_files(tmp_path), "team/tiny")
    assert "hf download team/tiny" in refused.value.hint
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("team/absent", "the hub has no such repository", "set HF_TOKEN for a private one"),
        ("team/gated", "its owner asks for consent first", "accept the terms at https://hf.co/team/gated"),
        ("no name at all", "could not be fetched", "put the folder beside model.json"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(hub, tmp_path, name, words, hint):
    """A wrong name, a gated repository and no name at all are told apart, with what to do."""
    with pytest.raises(InvalidArgument, match=words) as refused:
        ModelSources().tokenizer_folder(_files(tmp_path, name), name)
    assert hint in refused.value.hint


def test_a_hub_that_cannot_be_reached(hub, tmp_path, monkeypatch):
    """Without a network the message says that it could not be fetched, and what to do instead."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InvalidArgument, match="it could not be fetched") as refused:
        ModelSources().tokenizer_folder(_files(tmp_path), "team/tiny")
    assert "check the network" in refused.value.hint


def test_a_folder_goes_before_the_hub(hub, tmp_path, scripted):
    """A folder beside model.json of the same name is taken."""
    folder = tmp_path / "1" / "team" / "tiny"
    folder.mkdir(parents=True)
    scripted.byte_level().save(str(folder / "tokenizer.json"))
    assert ModelSources().tokenizer_folder(_files(tmp_path), "team/tiny") == folder
    assert hub.asked == []


@pytest.mark.parametrize("given", ["mine.jinja", "{{ messages }}", "{{ messages }}\n" + "x" * 10_000, "rag"])
def test_the_template_of_model_json(tmp_path, given):
    """chat_template is a file beside model.json, or what else it says, and no argument of the engine."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mine.jinja").write_text("mine")
    files = _files(tmp_path, chat_template=given)
    assert files.chat_template == (str(tmp_path / "1" / "mine.jinja") if given == "mine.jinja" else given)
    assert files.engine_arguments == {"model": "team/tiny"}
