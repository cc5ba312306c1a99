"""espeak-ng through ctypes: the library and the voices that ship in `espeakng_loader`.

The library's state is global to the process, so there is one `EspeakLibrary` in it, which lets
one synthesis run at a time, on whatever thread. Interface: espeak-ng `speak_lib.h`.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np

from voxray.base.errors import EngineConfigError, EngineError
from voxray.pipelines.engines.base import Samples

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: the callback runs inside espeak_Synth.
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: an error is returned, the process lives on.
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_PHONEMES_IPA = 2
_RATE, _VOLUME, _PITCH = 1, 2, 3  # espeak_PARAMETER
_BUFFER_MS = 40
# Speech of one callback. Shorter means an earlier first sound and more calls.

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How to speak.

    Attributes:
        voice: espeak-ng voice, with a variant after `+` if wanted: `en-us`, `de`, `en-gb+f3`.
        rate: words a minute, 80 to 450.
        pitch: 0 to 99; 50 is the voice's own.
        volume: 0 to 200; 100 is normal.
    """

    voice: str = "en-us"
    rate: int = 170
    pitch: int = 50
    volume: int = 100

    def __post_init__(self) -> None:
        """Check the ranges that espeak-ng would clip silently."""
        for name, low, high in (("rate", 80, 450), ("pitch", 0, 99), ("volume", 0, 200)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {getattr(self, name)}")


class _VoiceEntry(ctypes.Structure):
    """`espeak_VOICE`; fields after the names are not read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class EspeakLibrary:
    """The loaded library. Use `espeak_library()`: a second one would share its state."""

    def __init__(self) -> None:
        """Load and initialise.

        Raises:
            EngineConfigError: the package is incomplete or not for this machine.
        """
        path, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        try:
            self._native = ctypes.CDLL(path)
        except OSError as error:
            raise EngineConfigError(
                f"espeak: the library of espeakng-loader can't be loaded: {error}"
            ) from error
        self._declare()
        rate = self._native.espeak_Initialize(
            _SYNCHRONOUS, _BUFFER_MS, str(data).encode(), _DONT_EXIT
        )
        if rate <= 0:
            raise EngineConfigError(
                f"espeak: initialisation failed with {rate}: the voice data of espeakng-loader "
                "is missing; install the package again"
            )
        self.sample_rate: int = rate
        self._lock = threading.Lock()
        self._current: Voice | None = None
        self._voices = self._list()
        self._variants = {
            entry.name for entry in (Path(data) / "voices" / "!v").iterdir() if entry.is_file()
        }

    def check(self, voice: Voice) -> None:
        """Check that a voice exists.

        Raises:
            EngineConfigError: it does not; the message names some that do.
        """
        self._resolve(voice)

    def voices(self) -> tuple[str, ...]:
        """Return all names that a voice may be asked for by, sorted."""
        return tuple(sorted(self._voices))

    def synthesize(
        self,
        text: str,
        voice: Voice,
        on_samples: Callable[[Samples], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Speak; hand out the samples as they are made, until the end or until `cancelled`.

        Raises:
            EngineConfigError: no such voice.
            EngineError: the library failed.
        """
        # A NUL would end the text early, in C.
        encoded = text.replace("\0", " ").encode("utf-8", errors="replace")
        if not encoded.strip():
            return
        failure: list[BaseException] = []

        def take(wave: Any, count: int, _events: int | None) -> int:
            if cancelled():
                return 1
            if not wave or count <= 0:
                return 0
            try:
                on_samples(np.ctypeslib.as_array(wave, (count,)).astype(np.int16, copy=True))
            except BaseException as error:
                # An exception can't cross C code: stop it, and raise it on the other side.
                failure.append(error)
                return 1
            return 0

        callback = _Callback(take)
        with self._lock:
            self._use(voice)
            self._native.espeak_SetSynthCallback(callback)
            status = self._native.espeak_Synth(
                encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
            )
        if failure:
            raise failure[0]
        if status != 0:
            raise EngineError(f"espeak: synthesis failed with status {status}")

    def phonemes(self, text: str, voice: str) -> list[tuple[str, str]]:
        """Return a text's clauses: each in IPA, with the part of the text that it was read from.

        The end of that part, stripped, is what ended the clause: a mark, or its last word.

        Raises:
            EngineConfigError: no such voice.
        """
        encoded = text.replace("\0", " ").encode("utf-8", errors="replace")
        buffer = ctypes.create_string_buffer(encoded)
        start = ctypes.addressof(buffer)
        place, done, ahead = ctypes.c_void_p(start), 0, ""
        clauses: list[tuple[str, str]] = []
        with self._lock:
            self._use(Voice(voice=voice))
            while True:
                spoken = self._native.espeak_TextToPhonemes(
                    ctypes.byref(place), _CHARS_UTF8, _PHONEMES_IPA
                )
                reached = place.value
                end = len(encoded) if reached is None else reached - start
                source = ahead + encoded[done:end].decode("utf-8", errors="replace")
                done, ahead = end, ""
                if end < len(encoded):
                    # The library has read the first character of the next clause already.
                    source, ahead = source[:-1], source[-1:]
                clauses.append(((spoken or b"").decode(), source))
                if reached is None:
                    return clauses

    def _resolve(self, voice: Voice) -> str:
        base, _, variant = voice.voice.partition("+")
        identifier = self._voices.get(base.lower())
        if identifier is None:
            near = sorted(name for name in self._voices if name.startswith(base[:2].lower()))
            listed = ", ".join(near[:12]) or "en-us, en-gb, de, fr-fr, es"
            raise EngineConfigError(
                f"espeak: no voice {base!r}; there are {listed}, and more in "
                "voxray.pipelines.engines.espeak_tts.voices()"
            )
        if variant and variant not in self._variants:
            raise EngineConfigError(
                f"espeak: no variant {variant!r} of voice {base!r}; use f1 to f5, m1 to m8, or a "
                "file in voices/!v of espeak-ng's data"
            )
        return f"{identifier}+{variant}" if variant else identifier

    def _use(self, voice: Voice) -> None:
        if voice == self._current:
            return
        name = self._resolve(voice)
        self._current = None
        if (status := self._native.espeak_SetVoiceByName(name.encode())) != 0:
            raise EngineConfigError(f"espeak: voice {voice.voice!r} failed with status {status}")
        # After the voice, which may bring its own values.
        for parameter, value in (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_VOLUME, voice.volume),
        ):
            self._native.espeak_SetParameter(parameter, value, 0)
        self._current = voice

    def _declare(self) -> None:
        native = self._native
        native.espeak_Initialize.argtypes = (
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
        )
        native.espeak_SetSynthCallback.argtypes = (_Callback,)
        native.espeak_SetSynthCallback.restype = None
        native.espeak_SetVoiceByName.argtypes = (ctypes.c_char_p,)
        native.espeak_SetParameter.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
        native.espeak_Synth.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint),
            ctypes.c_void_p,
        )
        native.espeak_TextToPhonemes.argtypes = (
            ctypes.POINTER(ctypes.c_void_p),
            ctypes.c_int,
            ctypes.c_int,
        )
        native.espeak_TextToPhonemes.restype = ctypes.c_char_p
        native.espeak_ListVoices.argtypes = (ctypes.c_void_p,)
        native.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceEntry))

    def _list(self) -> dict[str, str]:
        """Return by each lower-case name of a voice (file, title, language) its identifier."""
        found: dict[str, str] = {}
        entries = self._native.espeak_ListVoices(None)
        for index in range(10_000):  # The list ends with a null pointer.
            if not entries[index]:
                break
            entry = entries[index].contents
            identifier: str = entry.identifier.decode()
            names = [identifier, identifier.rpartition("/")[2], entry.name.decode()]
            for name in (*names, *_languages(entry.languages)):
                found.setdefault(name.lower(), identifier)
        return found


def _languages(address: int) -> list[str]:
    """Return the languages of a voice: each is a priority byte and a string; a NUL ends them."""
    languages = []
    while ctypes.string_at(address, 1) != b"\0":
        language = ctypes.string_at(address + 1)
        languages.append(language.decode())
        address += len(language) + 2
    return languages


_loading = threading.Lock()


def espeak_library() -> EspeakLibrary:
    """Return the process's one library, loaded on the first call, from any thread.

    Raises:
        EngineConfigError: it can't be loaded.
    """
    # The library's state is the process's: initialised twice at once it reads broken voice data.
    with _loading:
        return _loaded()


@cache
def _loaded() -> EspeakLibrary:
    return EspeakLibrary()
