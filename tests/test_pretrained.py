"""The hub: a network goes there and comes back, against a server in this process that keeps what it is sent."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from huggingface_hub import constants

from cellgraph import CellGraph, GMLPCell, Lattice, pretrained
from cellgraph.teacher.hub import locate_model
from cellgraph.testing import randomise

COMMIT = "c0ffee" + "0" * 34


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a commit of small files and their download take."""

    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, str, dict]]] = []

    def log_message(self, *args: object) -> None:
        pass

    def reply(self, content: bytes | dict | list, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in body.splitlines()]
        self.requests.append((self.path, self.headers.get("Authorization", ""), lines[0]))
        if self.path == "/api/repos/create":
            self.reply({"url": f"{constants.ENDPOINT}/me/cube", "name": "me/cube"})
        elif "/preupload/" in self.path:
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in lines[0]["files"]]
            self.reply({"files": modes})
        elif "/commit/" in self.path:
            for line in lines:
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.reply({"commitUrl": f"{constants.ENDPOINT}/me/cube/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.reply({})

    def do_GET(self) -> None:
        self.requests.append((self.path, self.headers.get("Authorization", ""), {}))
        place, name = self.path.split("?")[0], self.path.split("/")[-1]
        if "/resolve/" in place and place.startswith("/me/cube/"):
            if name in self.files:
                self.reply(self.files[name], ETag=f'"{name}"', X_Repo_Commit=COMMIT)
            else:
                self.reply(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        elif place.startswith("/api/models/me/cube/tree/"):
            self.reply([{"type": "file", "path": f, "size": len(c), "oid": f} for f, c in self.files.items()])
        elif place.startswith("/api/models/me/cube"):
            self.reply({"id": "me/cube", "sha": COMMIT, "siblings": [{"rfilename": f} for f in self.files]})
        else:
            self.reply({"error": "no such repository"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files, Hub.requests = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def network() -> CellGraph:
    mask = torch.ones(3, 3, 3)
    mask[1, 1, 1] = 0
    model = CellGraph(
        GMLPCell(Lattice((3, 3, 3), mask=mask), 6, hidden=8, heads=2), in_features=7, surface_channels=1, num_steps=4
    )
    randomise(model)
    return model.eval()


def test_a_network_goes_to_the_hub_and_comes_back(hub: type[Hub], network: CellGraph, tmp_path: Path) -> None:
    address = network.push_to_hub("me/cube", private=True, commit_message="A cube", token="secret", license="mit")
    assert address == f"{constants.ENDPOINT}/me/cube/commit/{COMMIT}"
    assert set(hub.files) == {"config.json", "model.safetensors", "README.md"}
    sent = {
        path.split("/")[-1] if path == "/api/repos/create" else path.split("/")[-2]: (auth, body)
        for path, auth, body in hub.requests
        if body
    }
    assert all(auth == "Bearer secret" for auth, _ in sent.values())
    assert sent["create"][1].get("private") is True or sent["create"][1].get("visibility") == "private"
    assert sent["commit"][1]["value"]["summary"] == "A cube"

    hub.files |= {"danger.py": b"raise SystemExit", "pytorch_model.bin": b"pickle"}
    hub.requests.clear()
    again = CellGraph.from_pretrained("me/cube", token="secret")
    question = torch.randn(2, 7)
    assert torch.equal(again(question).embedding, network(question).embedding)
    fetched = {path.split("/")[-1] for path, _, _ in hub.requests if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors"}
    assert {path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")} == fetched


def test_what_a_stranger_has_put_on_the_hub_stays_where_it_is(
    hub: type[Hub], network: CellGraph, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path / "network")
    whole = {name: (tmp_path / "network" / name).read_bytes() for name in ("config.json", "model.safetensors")}
    names = ["../config.json", "../../escaped.json", "/escaped.json", "sub/../../escaped.json", "tricks.py"]
    hub.files |= whole | dict.fromkeys(names, b"{}")
    assert isinstance(CellGraph.from_pretrained("me/cube"), CellGraph)
    assert {path.split("/")[-1] for path, *_ in hub.requests if "/resolve/" in path} == {*whole}
    # A teacher's small files are fetched by their suffixes, and none that lies in a folder.
    hub.files["tokenizer.json"] = b"{}"
    hub.requests.clear()
    locate_model("me/cube")
    fetched = [path.partition("/resolve/")[2].partition("/")[2] for path, *_ in hub.requests if "/resolve/" in path]
    assert {*fetched} <= {*whole, "tokenizer.json"}
    assert not [*tmp_path.rglob("*escaped*"), *tmp_path.rglob("*tricks*")]


@pytest.mark.parametrize("planted", [b"\x80\x04cos\nsystem\n", b"\xff" * 8 + b"{}", b""])
def test_weights_on_the_hub_that_are_none_are_refused(hub: type[Hub], network: CellGraph, planted: bytes) -> None:
    hub.files |= {"config.json": json.dumps(network.config()).encode(), "model.safetensors": planted}
    with pytest.raises(ValueError, match="is damaged"):
        CellGraph.from_pretrained("me/cube")


def test_the_card_says_what_it_is_and_a_card_by_hand_is_kept(hub: type[Hub], network: CellGraph) -> None:
    network.push_to_hub("me/cube", license="mit", token="secret")
    card = hub.files["README.md"].decode()
    assert card.startswith("---\n")
    for line in ("library_name: cellgraph", "license: mit", "CellGraph.from_pretrained('me/cube')"):
        assert line in card
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f"{count:,} parameters" in card
    # The voxel mask is nobody's reading.
    assert '"mask": "..."' in card
    hub.files["README.md"] = b"by hand"
    network.push_to_hub("me/cube", token="secret")
    assert hub.files["README.md"] == b"by hand"


def test_a_hub_out_of_reach_is_one_line(
    hub: type[Hub], network: CellGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="'me/nothing' is no folder, and the Hugging Face hub did not give it") as error:
        CellGraph.from_pretrained("me/nothing")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="'me/cube' is no folder, and the Hugging Face hub did not give it") as error:
        CellGraph.from_pretrained("me/cube")
    assert "\n" not in str(error.value)
    with pytest.raises(OSError, match="could not be pushed to 'me/cube'") as error:
        network.push_to_hub("me/cube")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="like 'owner/name', got 'a/b/c'"):
        network.push_to_hub("a/b/c")
    # Paths, and strings that no hub would know, are folders.
    for folder in (Path("me/cube"), str(tmp_path / "nothing")):
        with pytest.raises(ValueError, match=r"holds no saved network: config\.json is missing"):
            CellGraph.from_pretrained(folder)


def test_a_repository_without_a_network_is_told(hub: type[Hub]) -> None:
    hub.files["README.md"] = b"nothing here"
    with pytest.raises(ValueError, match=r"me/cube holds no saved network: config\.json is missing"):
        CellGraph.from_pretrained("me/cube")


def test_another_network_in_its_place_is_there_whole_or_the_first_still_is(
    network: CellGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.save_pretrained(tmp_path)
    # The weights of the one fit the other.
    other = CellGraph.from_config({**network.config(), "num_steps": network.num_steps[0] + 1})
    randomise(other)
    fresh = pretrained.write_atomically, Path.replace

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    def killed(path: Path, target: Path) -> Path:
        if target.name == "config.json":
            raise KeyboardInterrupt
        return fresh[1](path, target)

    monkeypatch.setattr(pretrained, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        other.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert CellGraph.from_pretrained(tmp_path).config() == network.config()

    monkeypatch.setattr(pretrained, "write_atomically", fresh[0])
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        CellGraph.from_pretrained(tmp_path)


def test_a_process_that_has_imported_nothing_else_loads_a_network(network: CellGraph, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    program = "import sys; from cellgraph.model import CellGraph; CellGraph.from_pretrained(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
