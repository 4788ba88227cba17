"""A language model of three layers and random numbers, for llama-simple: `random_model.py SOURCE F16|Q8_0|Q4_0 FILE`, where SOURCE is llama.cpp's."""

import sys
from pathlib import Path

import numpy

source, kind, file = sys.argv[1:]
sys.path.insert(0, str(Path(source) / "gguf-py"))
import gguf  # noqa: E402

WIDTH, LAYERS, HEADS, KEPT_HEADS, FORWARD, CONTEXT = 256, 3, 4, 2, 512, 128
# What a vocabulary of sentencepiece begins with, a token for each byte, and letters.
SPECIAL = [(b"<unk>", gguf.TokenType.UNKNOWN), (b"<s>", gguf.TokenType.CONTROL), (b"</s>", gguf.TokenType.CONTROL)]
BYTES = [(f"<0x{byte:02X}>".encode(), gguf.TokenType.BYTE) for byte in range(256)]
LETTERS = [(letter.encode(), gguf.TokenType.NORMAL) for letter in "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
VOCABULARY = SPECIAL + BYTES + LETTERS

random = numpy.random.default_rng(7)
writer = gguf.GGUFWriter(file, "llama")
quantised = gguf.GGMLQuantizationType[kind]


def add(name, rows, columns):
    values = (random.standard_normal((rows, columns)) / numpy.sqrt(columns)).astype(numpy.float32)
    writer.add_tensor(name, gguf.quantize(values, quantised), raw_dtype=quantised)


def add_ones(name):
    writer.add_tensor(name, numpy.ones(WIDTH, dtype=numpy.float32))


writer.add_context_length(CONTEXT)
writer.add_embedding_length(WIDTH)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(FORWARD)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KEPT_HEADS)
writer.add_rope_dimension_count(WIDTH // HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(len(VOCABULARY))
writer.add_tokenizer_model("llama")
writer.add_token_list([token for token, _ in VOCABULARY])
writer.add_token_scores([-float(number) for number in range(len(VOCABULARY))])
writer.add_token_types([token_type for _, token_type in VOCABULARY])
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)

add("token_embd.weight", len(VOCABULARY), WIDTH)
for layer in range(LAYERS):
    add_ones(f"blk.{layer}.attn_norm.weight")
    add_ones(f"blk.{layer}.ffn_norm.weight")
    add(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
    add(f"blk.{layer}.attn_k.weight", WIDTH // HEADS * KEPT_HEADS, WIDTH)
    add(f"blk.{layer}.attn_v.weight", WIDTH // HEADS * KEPT_HEADS, WIDTH)
    add(f"blk.{layer}.attn_output.weight", WIDTH, WIDTH)
    add(f"blk.{layer}.ffn_gate.weight", FORWARD, WIDTH)
    add(f"blk.{layer}.ffn_up.weight", FORWARD, WIDTH)
    add(f"blk.{layer}.ffn_down.weight", WIDTH, FORWARD)
add_ones("output_norm.weight")
add("output.weight", len(VOCABULARY), WIDTH)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
