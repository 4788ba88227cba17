"""transformers: a tiny language model with random weights, made here: forward, backward, generation."""

from common import Results, need

need("torch", "transformers")
results = Results()

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from transformers import GPT2Config, GPT2LMHeadModel

device = os.environ.get("CHECK_DEVICE", "cuda")
torch.manual_seed(9)
torch.backends.cuda.matmul.allow_tf32 = False
results.begin("model")
configuration = GPT2Config(
    vocab_size=500, n_positions=64, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, pad_token_id=0
)
model = GPT2LMHeadModel(configuration).to(device).eval()
tokens = torch.arange(1, 33).reshape(2, 16).to(device)
results.begin("forward")
with torch.no_grad():
    results.add("logits", model(tokens).logits.float().cpu())
results.begin("backward")
loss = model(tokens, labels=tokens).loss
loss.backward()
results.add("loss", loss.item())
results.add("gradient", model.transformer.wte.weight.grad.cpu())
results.begin("generation")
with torch.no_grad():
    mask = torch.ones_like(tokens)
    written = model.generate(tokens, attention_mask=mask, max_new_tokens=16, do_sample=False)
results.add("tokens", written.cpu())
results.begin("timing")


def step():
    with torch.no_grad():
        model(tokens).logits.sum().item()


results.time("step", step, 30)
results.save()
