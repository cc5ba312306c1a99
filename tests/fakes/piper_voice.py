"""A Piper voice in small: a real ONNX model with a voice's inputs, whose sound tells what it got.

The wave is a tone: 256 samples for each number of the input times the length scale, an octave
higher for each speaker, with as much noise as the noise scale says.
"""

import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the group 'dev' is not installed")
helper, TensorProto = onnx.helper, onnx.TensorProto

PER_PHONEME = 256
SYMBOLS = "_^$ !,.:;?abcdefghijklmnopqrstuvwxyzæçðøħŋœɐɑɒɔɕəɚɛɜɡɪɫɹɾʁʃʊʌʒʔˈˌːθχ"


def write_voice(folder: Path, name="tiny", *, rate=22_050, speakers=1, **changes) -> Path:
    """Write the model and its description; return the model's path."""
    path = folder / f"{name}.onnx"
    onnx.save(_model(speakers), path)
    description = {
        "audio": {"sample_rate": rate, "quality": "x_low"},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.0, "length_scale": 1.0, "noise_w": 0.0},
        "phoneme_type": "espeak",
        "phoneme_map": {},
        "phoneme_id_map": {symbol: [number] for number, symbol in enumerate(SYMBOLS)},
        "num_symbols": len(SYMBOLS),
        "num_speakers": speakers,
        "speaker_id_map": {f"s{number}": number for number in range(speakers)}
        if speakers > 1
        else {},
        **changes,
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(description))
    return path


def _model(speakers: int):
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "per_phoneme": np.float32(PER_PHONEME),
        "step": np.float32(2 * np.pi * 0.01),
        "shape": np.array([1, 1, 1, -1], np.int64),
        "at_noise": np.int64(0),
        "at_length": np.int64(1),
        "first": np.int64(0),
        "two": np.float32(2),
    }
    nodes = [
        helper.make_node("Gather", ["scales", "at_noise"], ["noise"], axis=0),
        helper.make_node("Gather", ["scales", "at_length"], ["length"], axis=0),
        helper.make_node("Gather", ["input_lengths", "first"], ["count"], axis=0),
        helper.make_node("Cast", ["count"], ["count_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count_f", "per_phoneme"], ["samples"]),
        helper.make_node("Mul", ["samples", "length"], ["end"]),
        helper.make_node("Range", ["zero", "end", "one"], ["time"]),
        helper.make_node("Mul", ["time", "step"], ["phase"]),
    ]
    if speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, ["batch"]))
        nodes += [
            helper.make_node("Gather", ["sid", "first"], ["speaker"], axis=0),
            helper.make_node("Cast", ["speaker"], ["speaker_f"], to=TensorProto.FLOAT),
            helper.make_node("Pow", ["two", "speaker_f"], ["octave"]),
            helper.make_node("Mul", ["phase", "octave"], ["pitched"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["phase"], ["pitched"]))
    nodes += [
        helper.make_node("Sin", ["pitched"], ["tone"]),
        helper.make_node("RandomUniformLike", ["tone"], ["random"], low=-1.0, high=1.0),
        helper.make_node("Mul", ["random", "noise"], ["noisy"]),
        helper.make_node("Add", ["tone", "noisy"], ["wave"]),
        helper.make_node("Reshape", ["wave", "shape"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny-voice",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 1, "time"])],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
