"""Makes Whisper models without training, in CTranslate2's format: for speed and for plumbing.

Two kinds. With random weights (`words=None`) a model of any size costs what a trained one of that
size costs, and says nonsense that depends on what it hears. With `words` it says just these words
whatever it hears, and ends: all layers pass on what they are given, and the last one maps each
token to the next.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2.specs import WhisperSpec
from ctranslate2.specs.whisper_spec import WhisperConfig
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

_MULTILINGUAL_TOKENS = 51_866
# Tokens of large-v3; the older multilingual models have one less.
_POSITIONS = 448
_AUDIO_POSITIONS = 1500
# Of Whisper: tokens of a transcript at most, and windows of 20 ms in 30 s.
_TIMESTAMPS = 1501
_SURE = 0.5
# Logit of the right next token: 0.5 * width, others near 0.
_UNSURE = 0.01
# All tokens are nearly equally probable, and yet the right one is the most probable.

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a model.

    Attributes:
        width: of the vectors; a multiple of 64, or below 64 one head.
        encoder_layers: layers that hear.
        decoder_layers: layers that write.
        mels: mel bands of the features: 80, or 128 from large-v3 on.
        multilingual: whether it knows languages and tasks; takes 51,866 tokens.
    """

    width: int = 32
    encoder_layers: int = 1
    decoder_layers: int = 1
    mels: int = 80
    multilingual: bool = False

    @property
    def heads(self) -> int:
        """Heads of 64, as Whisper has them."""
        return max(1, self.width // 64)


TINIEST = Architecture()
"""Loads and decodes in milliseconds."""
TINY = Architecture(width=384, encoder_layers=4, decoder_layers=4, multilingual=True)
"""The shape of Whisper tiny."""
BASE = Architecture(width=512, encoder_layers=6, decoder_layers=6, multilingual=True)
"""The shape of Whisper base."""
SMALL = Architecture(width=768, encoder_layers=12, decoder_layers=12, multilingual=True)
"""The shape of Whisper small."""
LARGE_V3 = Architecture(
    width=1280, encoder_layers=32, decoder_layers=32, mels=128, multilingual=True
)
"""The shape of Whisper large-v3."""
LARGE_V3_TURBO = Architecture(
    width=1280, encoder_layers=32, decoder_layers=4, mels=128, multilingual=True
)
"""The shape of Whisper large-v3-turbo."""
SIZES = {
    "tiniest": TINIEST,
    "tiny": TINY,
    "base": BASE,
    "small": SMALL,
    "large-v3-turbo": LARGE_V3_TURBO,
    "large-v3": LARGE_V3,
}


def make(
    folder: Path,
    architecture: Architecture = TINIEST,
    *,
    words: Sequence[str] | None = None,
    sure: bool = True,
    silent: bool = False,
    seed: int = 1,
) -> Path:
    """Write a model into a folder, which is made; return the folder.

    Args:
        folder: where to.
        architecture: its shape.
        words: what it says, whatever it hears; none makes a model of random weights.
        sure: whether it is sure of its words; else all tokens are nearly equally probable.
        silent: whether it takes what it hears for no speech.
        seed: of the random weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens = _tokens(architecture, words or ())
    tokenizer = _tokenizer(tokens)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"feature_size": architecture.mels, "sampling_rate": 16_000})
    )
    spec = WhisperSpec(
        architecture.encoder_layers,
        architecture.heads,
        architecture.decoder_layers,
        architecture.heads,
    )
    rng = np.random.default_rng(seed)
    _fill(spec, architecture, len(tokens), rng, quiet=words is not None)
    if words is not None:
        chain = _chain(tokens, words, silent=silent)
        _say(spec, chain, tokens, rng, scale=_SURE if sure else _UNSURE)
    spec.register_vocabulary(tokens)
    _configure(spec.config, tokens, architecture)
    spec.validate()
    spec.optimize(quantization="float16" if architecture.width > 512 else None)
    spec.save(str(folder))
    return folder


def _tokens(architecture: Architecture, words: Sequence[str]) -> list[str]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # A word with a space before it, as byte-level tokenizers write it.
    texts = [*letters, *(f"Ġ{word}" for word in words)]
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    if architecture.multilingual:
        special += [f"<|{code}|>" for code in _LANGUAGE_CODES]
    special += [
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    special += [f"<|{number * 0.02:.2f}|>" for number in range(_TIMESTAMPS)]
    if not architecture.multilingual:
        return [*texts, *special]
    # Tokens that stand for themselves: the size of a vocabulary is part of a model's cost. The
    # empty one is what CTranslate2 knows a multilingual vocabulary by.
    missing = _MULTILINGUAL_TOKENS - len(texts) - len(special) - 1
    return [*texts, *(f"Ġw{number}" for number in range(missing)), "", *special]


def _tokenizer(tokens: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(BPE({token: n for n, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in tokens if token.startswith("<|")]
    )
    return tokenizer


def _configure(config: WhisperConfig, tokens: Sequence[str], shape: Architecture) -> None:
    languages = {f"<|{code}|>" for code in _LANGUAGE_CODES}
    config.suppress_ids = []
    config.suppress_ids_begin = [tokens.index("<|endoftext|>")]
    # Whisper's own rule where nobody has chosen: all heads of the upper half of the layers.
    upper = range(shape.decoder_layers // 2, shape.decoder_layers)
    config.alignment_heads = [(layer, head) for layer in upper for head in range(shape.heads)]
    config.lang_ids = [number for number, token in enumerate(tokens) if token in languages]


def _fill(
    spec: WhisperSpec, shape: Architecture, tokens: int, rng: np.random.Generator, *, quiet: bool
) -> None:
    """Give every weight a value; `quiet` layers pass on what they are given."""
    width = shape.width
    scale = 0.0 if quiet else 1.0 / np.sqrt(width)

    def random(*size: int) -> Array:
        values = rng.standard_normal(size, dtype=np.float32)
        values *= scale
        return values.astype(np.float16) if width > 512 else values

    def zeros(size: int) -> Array:
        return np.zeros(size, np.float16 if width > 512 else np.float32)

    def linear(part: Any, size_in: int, size_out: int) -> None:
        part.weight, part.bias = random(size_out, size_in), zeros(size_out)

    def norm(part: Any) -> None:
        part.gamma, part.beta = zeros(width) + 1, zeros(width)

    def attention(part: Any, *sizes: int) -> None:
        for one, size in zip(part.linear, sizes, strict=True):
            linear(one, width, size)
        norm(part.layer_norm)

    def feed_forward(part: Any) -> None:
        linear(part.linear_0, width, 4 * width)
        linear(part.linear_1, 4 * width, width)
        norm(part.layer_norm)

    for part, size_in in ((spec.encoder.conv1, shape.mels), (spec.encoder.conv2, width)):
        part.weight, part.bias = random(width, size_in, 3), zeros(width)
    spec.encoder.position_encodings.encodings = random(_AUDIO_POSITIONS, width)
    norm(spec.encoder.layer_norm)
    for layer in spec.encoder.layer:
        attention(layer.self_attention, 3 * width, width)
        feed_forward(layer.ffn)
    spec.decoder.embeddings.weight = random(tokens, width)
    spec.decoder.position_encodings.encodings = random(_POSITIONS, width)
    norm(spec.decoder.layer_norm)
    for layer in spec.decoder.layer:
        attention(layer.self_attention, 3 * width, width)
        attention(layer.attention, width, 2 * width, width)
        feed_forward(layer.ffn)
    linear(spec.decoder.projection, width, tokens)


def _chain(tokens: Sequence[str], words: Sequence[str], *, silent: bool) -> dict[int, int]:
    """Return which token follows which."""
    say = [tokens.index(f"Ġ{word}") for word in words]
    end, start = tokens.index("<|endoftext|>"), tokens.index("<|startoftranscript|>")
    path = [tokens.index("<|notimestamps|>"), *say, end]
    chain = dict(pairwise(path))
    chain[start] = tokens.index("<|nospeech|>") if silent else path[1]
    return chain


def _say(
    spec: WhisperSpec,
    chain: dict[int, int],
    tokens: Sequence[str],
    rng: np.random.Generator,
    *,
    scale: float,
) -> None:
    embeddings = spec.decoder.embeddings.weight
    embeddings[:] = rng.standard_normal(embeddings.shape, dtype=np.float32)
    mean = embeddings.mean(axis=1, keepdims=True)
    embeddings -= mean
    embeddings /= embeddings.std(axis=1, keepdims=True)
    projection = spec.decoder.projection.weight
    silence = tokens.index("<|nospeech|>")
    for token, following in chain.items():
        projection[following] += (_SURE if following == silence else scale) * embeddings[token]
