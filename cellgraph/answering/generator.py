"""A small causal language model that puts an answer embedding into words."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from cellgraph.files import write_atomically, write_json
from cellgraph.numbers import plain_numbers
from cellgraph.reading import first_line, read_json, read_tensors, within

PAD, END = 0, 1
#: What cross entropy passes over.
IGNORED = -100


def train_tokenizer(texts: Sequence[str], *, vocabulary: int = 2000) -> Tokenizer:
    """A byte-level byte-pair encoding learned from texts: any text can be written in it.

    (Sennrich et al. 2016, `arXiv 1508.07909 <https://arxiv.org/abs/1508.07909>`_.)
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class GenerativeDecoder(nn.Module):
    """A GPT-2 of a million parameters that continues a few prefix vectors, a linear image of the answer embedding.

    (Prefixes as in ClipCap, Mokady et al. 2021, `arXiv 2111.09734 <https://arxiv.org/abs/2111.09734>`_; the model is
    :class:`transformers.GPT2LMHeadModel`.)

    Args:
        tokenizer: From :func:`train_tokenizer`.
        width: Width of the answer embeddings.
        hidden: Width of the language model.
        layers: Its blocks.
        heads: Its attention heads.
        prefix: Prefix vectors.
        max_tokens: Longest text in tokens, the end included; longer ones are cut.
        dropout: In training.

    Shapes:
        - **embedding:** ``[batch, width]``
        - **tokens:** ``[batch, num_tokens]``, padded with :data:`IGNORED`
        - **output:** ``[batch, num_tokens, vocabulary]``, what is expected at each token before it is seen
    """

    mean: Tensor
    scale: Tensor

    @plain_numbers
    def __init__(
        self,
        tokenizer: Tokenizer,
        width: int,
        *,
        hidden: int = 128,
        layers: int = 3,
        heads: int = 4,
        prefix: int = 8,
        max_tokens: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        # A text may speak of `<end>`, which does not end it. Not kept in the tokenizer's file.
        tokenizer.encode_special_tokens = True
        self.options: dict[str, Any] = {"width": width, "hidden": hidden, "layers": layers, "heads": heads}
        self.options |= {"prefix": prefix, "max_tokens": max_tokens, "dropout": dropout}
        self.max_tokens = max_tokens
        self.prefix = nn.Linear(width, prefix * hidden)
        self.model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=tokenizer.get_vocab_size(),
                n_positions=prefix + max_tokens,
                n_embd=hidden,
                n_layer=layers,
                n_head=heads,
                resid_pdrop=dropout,
                embd_pdrop=dropout,
                attn_pdrop=dropout,
                bos_token_id=END,
                eos_token_id=END,
            )
        )
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def standardise(self, embeddings: Tensor) -> None:
        """Learn what the mean and the spread of answer embeddings are, ``[num_answers, width]``."""
        unit = F.normalize(embeddings.float(), dim=1)
        self.mean.copy_(unit.mean(0))
        self.scale.copy_((unit - self.mean).square().mean().sqrt().clamp_min(1e-6))

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Texts as tokens, each with its end, padded with :data:`IGNORED`: ``[num_texts, num_tokens]``."""
        rows = [[*encoding.ids[: self.max_tokens - 1], END] for encoding in self.tokenizer.encode_batch(list(texts))]
        return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, IGNORED)

    def forward(self, embedding: Tensor, tokens: Tensor) -> Tensor:
        """Logits of every token, given the embedding and the tokens before it."""
        words = self.model.transformer.wte(tokens.clamp(min=PAD))
        prefix = self._prefix(embedding)
        logits = self.model(inputs_embeds=torch.cat([prefix, words], dim=1), use_cache=False).logits
        return logits[:, prefix.size(1) - 1 : -1]

    def loss(self, embedding: Tensor, tokens: Tensor) -> Tensor:
        """Mean cross entropy of the tokens, in nats."""
        return F.cross_entropy(self(embedding, tokens).flatten(0, 1), tokens.flatten(), ignore_index=IGNORED)

    @torch.no_grad()
    def generate(self, embedding: Tensor) -> list[str]:
        """The text for each embedding: the most likely token at every place that repeats no run of four."""
        training = self.training
        self.eval()
        prefix = self._prefix(embedding)
        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        model: Any = self.model  # transformers' own annotations do not admit its models
        with warnings.catch_warnings():
            # That runs are counted in what is new only is as it should be: a prefix has no tokens.
            warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size` with `inputs_embeds`")
            rows = model.generate(
                inputs_embeds=prefix,
                attention_mask=mask,
                max_new_tokens=self.max_tokens,
                do_sample=False,
                no_repeat_ngram_size=4,  # small models get caught in loops
                pad_token_id=PAD,
            )
        self.train(training)
        return [" ".join(text.split()) for text in self.tokenizer.decode_batch(rows.tolist())]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer.json``, ``model.safetensors`` and ``config.json`` into a folder, each in one piece."""
        folder = Path(folder)
        # The output layer shares its weights with the input's, and safetensors keeps each once.
        weights = {name: x.detach().contiguous() for name, x in self.state_dict().items() if "lm_head" not in name}
        write_atomically(folder / "tokenizer.json", self.tokenizer.to_str().encode())
        write_atomically(folder / "model.safetensors", save(weights))
        # Last: where it is, the others are.
        write_json(folder / "config.json", self.options)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> GenerativeDecoder:
        """Read a decoder from a folder that :meth:`save_pretrained` wrote; nothing in it is executed.

        Raises:
            ValueError: If a file is missing, damaged, or does not fit the others.
        """
        folder = Path(folder)
        try:
            options: dict[str, Any] = read_json(folder / "config.json")
            tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
            weights = read_tensors(folder / "model.safetensors")
            with within(sum(weight.nbytes for weight in weights.values())):
                decoder = cls(tokenizer, options.pop("width"), **options)
            missing, unexpected = decoder.load_state_dict(weights, strict=False)
            wrong = [name for name in missing if "lm_head" not in name] + unexpected
            if wrong:
                raise RuntimeError(f"{wrong[0]} is missing or unknown")
        except OSError as error:
            raise ValueError(f"{folder} holds no generative decoder: {error}") from error
        # The tokenizer's parser raises plain Exception.
        except Exception as error:
            raise ValueError(f"the generative decoder in {folder} is damaged: {first_line(error)}") from error
        return decoder.eval()

    def _prefix(self, embedding: Tensor) -> Tensor:
        standard = (F.normalize(embedding, dim=1) - self.mean) / self.scale
        return self.prefix(standard).unflatten(1, (-1, self.options["hidden"]))
