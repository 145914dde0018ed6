"""Pretrained: a module that is saved as plain JSON and safetensors, in a folder or on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cellgraph.files import PART, write_atomically, write_json
from cellgraph.reading import faults, first_line, read_json, read_tensors, within

# The hub's client is imported where it is used: a network in a folder does without.
if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

Self = TypeVar("Self", bound="Pretrained")


class Pretrained(nn.Module):
    """A module that can be written to a folder or a hub and read back; nothing that is read is executed.

    What is saved is ``config.json``, the constructor's arguments as plain types, and ``model.safetensors``. A subclass
    says what its configuration is and how to build it from one.
    """

    def config(self) -> dict[str, Any]:
        """All that it takes to build the module again, as plain types."""
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """A new module from what :meth:`config` gave."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, each in one piece.

        A network that is there already is replaced once both are on the disk. Whoever is killed in between leaves no
        configuration beside the weights of another network, which may fit it.
        """
        folder = Path(folder)
        config, second = self.config(), {name: folder / f".{name}{PART}" for name in (CONFIG, WEIGHTS)}
        try:
            write_json(second[CONFIG], config)
            write_atomically(second[WEIGHTS], save(apart(self.state_dict())))
            (folder / CONFIG).unlink(missing_ok=True)
            for name in (WEIGHTS, CONFIG):
                second[name].replace(folder / name)
        finally:
            for path in second.values():
                path.unlink(missing_ok=True)

    @classmethod
    def from_pretrained(
        cls: type[Self],
        folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Read a network that :meth:`save_pretrained` or :meth:`push_to_hub` wrote; nothing in it is executed.

        Args:
            folder: A folder; or, as a string that is none, a name on the Hugging Face hub, from which the two files
                are fetched and no others. A :class:`~pathlib.Path` is always a folder.
            revision: Branch, tag or commit on the hub.
            token: Token of the hub; the one of the login by default.

        Raises:
            ValueError: If a file is missing, damaged, or does not fit the other.
            OSError: If the hub does not give the files.
        """
        place = _locate(folder, revision, token)
        try:
            config, weights = read_json(place / CONFIG), read_tensors(place / WEIGHTS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(f"{folder} holds no saved network: {Path(error.filename).name} is missing") from error
        with faults(f"the network saved in {folder}"):
            with within(sum(weight.nbytes for weight in weights.values())):
                model = cls.from_config(config)
            take_dtypes(model, weights)
            model.load_state_dict(weights)
        return model.eval()

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload a network of cellgraph",
        revision: str | None = None,
        token: str | bool | None = None,
        license: str | None = None,
    ) -> str:
        """Put the network on the Hugging Face hub, with a model card where there is none yet.

        Args:
            name: Name of the repository there, ``"owner/name"``; made where absent.
            private: Whether a new repository is private; as the owner's settings say by default.
            commit_message: Title of the commit.
            revision: Branch to commit to; the main one by default.
            token: Token of the hub with the right to write; the one of the login by default.
            license: The hub's name of a licence, for the card, e.g. ``"mit"``.

        Returns:
            The address of the commit.

        Raises:
            ValueError: If the name is none that the hub knows.
            OSError: If the hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi

        _check_name(name)
        api = HfApi(token=token, library_name="cellgraph")
        with TemporaryDirectory() as folder, _hub_errors(f"the network could not be pushed to {name!r}"):
            name = api.create_repo(name, private=private, exist_ok=True).repo_id
            self.save_pretrained(folder)
            # A card that somebody has written there is worth more than a new one.
            if not api.file_exists(name, CARD, revision=revision):
                self.model_card(name, license=license).save(Path(folder) / CARD)
            commit = api.upload_folder(
                repo_id=name, folder_path=folder, commit_message=commit_message, revision=revision
            )
        return str(commit.commit_url)

    def model_card(self, name: str, *, license: str | None = None) -> ModelCard:
        """What the hub shows of a network: what it is, and how to load it.

        Args:
            name: Name of the repository.
            license: The hub's name of a licence.
        """
        from huggingface_hub import ModelCard, ModelCardData

        data = ModelCardData(library_name="cellgraph", license=license, tags=["cellgraph", "cellular", "lattice"])
        kind = type(self).__name__
        count = sum(parameter.numel() for parameter in self.parameters())
        return ModelCard(
            f"---\n{data.to_yaml()}\n---\n\n# {name}\n\n"
            f"A `{kind}` of the library cellgraph: a lattice of small shared networks, {count:,} parameters.\n\n"
            f"```python\nfrom cellgraph import {kind}\n\nmodel = {kind}.from_pretrained({name!r})\n```\n\n"
            f"## Configuration\n\n```json\n{_brief_json(self.config())}\n```\n"
        )


def apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as safetensors takes them, which keeps no two that share memory: those that a module ties are copied."""
    taken: set[tuple[torch.device, int]] = set()
    found = {}
    for name, value in weights.items():
        value = value.detach().contiguous()
        memory = value.device, value.untyped_storage().data_ptr()
        found[name] = value.clone() if memory in taken else value
        taken.add(memory)
    return found


def take_dtypes(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give each weight the dtype that it was saved in, and all that is not saved the widest of these."""
    saved = {name: weight.dtype for name, weight in weights.items() if weight.is_floating_point()}
    if saved:
        module.to(functools.reduce(torch.promote_types, saved.values()))
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in saved and tensor.is_floating_point():
            tensor.data = tensor.data.to(saved[name])


def _locate(folder: str | Path, revision: str | None, token: str | bool | None) -> Path:
    """The folder itself, or the hub's copy of the two files on this machine."""
    if isinstance(folder, Path) or Path(folder).is_dir() or not _is_name(folder):
        return Path(folder)
    from huggingface_hub import snapshot_download

    with _hub_errors(f"{folder!r} is no folder, and the Hugging Face hub did not give it"):
        return Path(snapshot_download(folder, revision=revision, token=token, allow_patterns=[CONFIG, WEIGHTS]))


def _is_name(name: str) -> bool:
    try:
        _check_name(name)
    except ValueError:
        return False
    return True


def _check_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"expected a name on the hub like 'owner/name', got {name!r}") from error


@contextlib.contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Errors of the hub's client, of HTTP and of the system in one line."""
    try:
        yield
    # The client lets the errors of the HTTP library through, and which one that is changes with its version.
    except Exception as error:
        raise OSError(f"{what} ({first_line(error)})") from error


def _brief_json(config: Mapping[str, Any]) -> str:
    """JSON without the long lists: node and voxel masks are in the configuration file."""

    def brief(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: brief(part) for key, part in value.items()}
        long = isinstance(value, list) and (len(value) > 8 or any(isinstance(part, list) for part in value))
        return "..." if long else value

    return json.dumps(brief(config), indent=2)
