#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a GGUF file of the shape of a Qwen 3.5 model (gated delta net and attention, 3 to 1) with random weights.

usage: tools/synthetic_hybrid.py SIZE TOKENIZER.gguf OUT.gguf      needs the Python package numpy; SIZE: see SHAPES

What such a model says means nothing, but it takes the time, memory and state of the true one: for measurements of prompts,
checkpoints and the prefix cache. Matrices are Q8_0. The tokenizer and the chat template are those of the file named, and the
vocabulary has its size. Names and shapes of tensors: Hugging Face's Qwen 3.5 and llama.cpp's converter.
"""
import pathlib, struct, sys

import numpy as np

# width, layers, heads, heads of keys and values, hidden units of the FFN, heads of values in a linear layer
SHAPES = {"0.8b": (1024, 24, 8, 2, 3584, 16), "2b": (2048, 24, 8, 2, 6144, 16), "4b": (2560, 32, 16, 4, 9216, 32), "9b": (4096, 32, 16, 4, 12288, 32)}
HEAD, LINEAR_HEAD, KEY_HEADS, CONV, EVERY = 256, 128, 16, 4, 4
F32, Q8_0 = 0, 8
U32, FLOAT, STRING, ARRAY, BOOL = 4, 6, 8, 9, 7
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Reader:
    """The metadata of a GGUF file, values as the bytes they are written with."""

    def __init__(self, path):
        self.bytes, self.at = path.read_bytes(), 8
        if self.bytes[:4] != b"GGUF":
            sys.exit(f"{path}: expected a GGUF file")
        self.take("<Q")
        self.entries = {}
        for _ in range(self.take("<Q")):
            key, start = self.string(), self.at
            self.skip(self.take("<I"))
            self.entries[key.decode()] = self.bytes[start : self.at]

    def take(self, form):
        (value,) = struct.unpack_from(form, self.bytes, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self):
        n = self.take("<Q")
        self.at += n
        return self.bytes[self.at - n : self.at]

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            inner = self.take("<I")
            for _ in range(self.take("<Q")):
                self.skip(inner)
        else:
            self.at += SIZES[kind]


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def metadata(size, tokenizer):
    width, layers, heads, kv_heads, ffn, value_heads = SHAPES[size]
    numbers = {
        "block_count": layers,
        "context_length": 262144,
        "embedding_length": width,
        "feed_forward_length": ffn,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "rope.dimension_count": HEAD // 4,
        "ssm.conv_kernel": CONV,
        "ssm.state_size": LINEAR_HEAD,
        "ssm.group_count": KEY_HEADS,
        "ssm.time_step_rank": value_heads,
        "ssm.inner_size": value_heads * LINEAR_HEAD,
        "full_attention_interval": EVERY,
    }
    out = {"general.architecture": struct.pack("<I", STRING) + string("qwen35")}
    out["general.name"] = struct.pack("<I", STRING) + string(f"synthetic hybrid {size}")
    out |= {f"qwen35.{name}": struct.pack("<II", U32, value) for name, value in numbers.items()}
    out["qwen35.rope.freq_base"] = struct.pack("<If", FLOAT, 1e7)
    out["qwen35.attention.layer_norm_rms_epsilon"] = struct.pack("<If", FLOAT, 1e-6)
    out["qwen35.rope.dimension_sections"] = struct.pack("<IIQ4I", ARRAY, U32, 4, 11, 11, 10, 0)
    return out | {key: value for key, value in tokenizer.items() if key.startswith("tokenizer.")}


def shapes(size, n_vocab):
    """(name, shape with the contiguous dimension last, type)"""
    width, layers, heads, kv_heads, ffn, value_heads = SHAPES[size]
    inner = value_heads * LINEAR_HEAD
    channels = 2 * KEY_HEADS * LINEAR_HEAD + inner
    yield "token_embd.weight", (n_vocab, width), Q8_0
    yield "output_norm.weight", (width,), F32
    for i in range(layers):
        if (i + 1) % EVERY:
            layer = [
                ("attn_qkv.weight", (channels, width), Q8_0),
                ("attn_gate.weight", (inner, width), Q8_0),
                ("ssm_alpha.weight", (value_heads, width), F32),
                ("ssm_beta.weight", (value_heads, width), F32),
                ("ssm_conv1d.weight", (channels, CONV), F32),
                ("ssm_dt.bias", (value_heads,), F32),
                ("ssm_a", (value_heads,), F32),
                ("ssm_norm.weight", (LINEAR_HEAD,), F32),
                ("ssm_out.weight", (width, inner), Q8_0),
            ]
        else:
            layer = [
                ("attn_q.weight", (heads * 2 * HEAD, width), Q8_0),
                ("attn_k.weight", (kv_heads * HEAD, width), Q8_0),
                ("attn_v.weight", (kv_heads * HEAD, width), Q8_0),
                ("attn_q_norm.weight", (HEAD,), F32),
                ("attn_k_norm.weight", (HEAD,), F32),
                ("attn_output.weight", (width, heads * HEAD), Q8_0),
            ]
        layer += [
            ("attn_norm.weight", (width,), F32),
            ("post_attention_norm.weight", (width,), F32),
            ("ffn_gate.weight", (ffn, width), Q8_0),
            ("ffn_up.weight", (ffn, width), Q8_0),
            ("ffn_down.weight", (width, ffn), Q8_0),
        ]
        yield from ((f"blk.{i}.{name}", shape, kind) for name, shape, kind in layer)


def values(name, shape, kind, random):
    n = int(np.prod(shape))
    if kind == Q8_0:
        blocks = np.empty(n // 32, dtype=[("scale", "<f2"), ("q", "i1", 32)])
        blocks["scale"] = 1 / (73 * np.sqrt(shape[1]))  # 73: the deviation of the codes
        blocks["q"] = random.integers(-127, 128, (n // 32, 32), dtype=np.int8)
        return blocks.tobytes()
    if name.endswith("norm.weight"):
        numbers = np.ones(n)
    elif name.endswith("ssm_a"):
        numbers = -np.exp(random.uniform(-4, 1, n))  # decays from almost none to almost all
    else:
        numbers = random.normal(0, 0.3 if "conv1d" in name else 1 / np.sqrt(shape[-1]), n)
    return numbers.astype("<f4").tobytes()


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(SHAPES)}}} TOKENIZER.gguf OUT.gguf")
    size, out = sys.argv[1], pathlib.Path(sys.argv[3])
    tokenizer = Reader(pathlib.Path(sys.argv[2])).entries
    n_vocab = struct.unpack_from("<Q", tokenizer["tokenizer.ggml.tokens"], 8)[0]  # after the kinds of the array and its items
    entries, tensors = metadata(size, tokenizer), list(shapes(size, n_vocab))
    random = np.random.default_rng(1)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    head += b"".join(string(key) + value for key, value in entries.items())
    at = 0
    for name, shape, kind in tensors:
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, at)
        n = int(np.prod(shape))
        at += -(-(n * 34 // 32 if kind == Q8_0 else n * 4) // 32) * 32
    with open(out, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for name, shape, kind in tensors:
            data = values(name, shape, kind, random)
            file.write(data + bytes(-len(data) % 32))


main()
