"""PyTorch: a small convolutional network trained with a fixed seed; losses and parameters are saved."""

from common import Results, need

need("torch")
results = Results()

import os

# cuBLAS is deterministic only with a workspace of a fixed size; it reads this before it begins.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from torch import nn

device = os.environ.get("CHECK_DEVICE", "cuda")
torch.manual_seed(7)
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.benchmark = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False

results.begin("model")
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(32 * 7 * 7, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()
# The same pictures everywhere: made on the processor. A class is a bright column.
generator = torch.Generator().manual_seed(11)
labels = torch.randint(0, 10, (512,), generator=generator)
pictures = torch.randn(512, 1, 28, 28, generator=generator) * 0.3
for index, label in enumerate(labels):
    pictures[index, 0, :, 2 * label + 4] += 2.0


def step(number):
    rows = slice(number % 8 * 64, number % 8 * 64 + 64)
    inputs, expected = pictures[rows].to(device), labels[rows].to(device)
    optimizer.zero_grad()
    loss = criterion(model(inputs), expected)
    loss.backward()
    optimizer.step()
    return loss.item()


results.begin("training")
results.add("losses", [step(number) for number in range(40)])
results.begin("timing")
number = iter(range(40, 10**6))
results.time("step", lambda: step(next(number)), 60)
results.begin("evaluation")
model.eval()
with torch.no_grad():
    logits = model(pictures.to(device)).cpu()
accuracy = (logits.argmax(1) == labels).float().mean().item()
print(f"accuracy {accuracy:.3f}, first loss {results.values['losses'][0]:.3f}, last {results.values['losses'][-1]:.3f}")
if accuracy < 0.9:
    raise SystemExit(f"FAIL the network did not learn: accuracy {accuracy:.3f}")
results.add("logits", logits)
for name, parameter in model.named_parameters():
    results.add(name, parameter.detach().cpu())
results.save()
