# SPDX-License-Identifier: Apache-2.0
"""Reward models of four kinds, compared with transformers and torch.

Each is shown a solution of three steps, here step by step through the tree
cache, there as one text.
"""

from collections.abc import Callable
import json
import pathlib
from typing import Any

from benchmarks import parity_models, parity_text
from jaxttc import inference, results
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import step_format
from jaxttc.verifiers import local_verifier

PROMPT = "What is 12 + 34?\n\n"
STEPS = ("2 + 4 = 6", "x² = 40", "\\boxed{46}")
FORMAT = step_format.StepFormat(separator="<|step|>", between="\n")
_SIZES = {**parity_models.SMALL, "max_position_embeddings": 256}


def ours(directory: pathlib.Path) -> list[float]:
  """Rewards of the steps, each scored when the ones before it are filed."""
  bundle = inference.load(str(directory), step_format=FORMAT)
  verifier = local_verifier.LocalVerifier(bundle, groups=1, nodes=4, slots=64)
  verifier.open({0: engine_lib.Prompt(text=PROMPT, tokens=(0,))})
  rewards = []
  for i, step in enumerate(STEPS):
    span = engine_lib.Span(
      group=0,
      ticket=0,
      parent=i,
      text=f"{step}\n\n",
      tokens=(0,),
      finished=i == len(STEPS) - 1,
    )
    rewards += verifier.score([span])
    if not span.finished:
      verifier.file(0, {0: i + 1})
  return rewards


def make(name: str, directory: pathlib.Path, seed: int) -> list[float]:
  """Saves a random reward model, and returns the rewards of the steps."""
  import torch
  import transformers

  torch.manual_seed(seed)
  if name == "tokens":  # a language model says + or -
    model = parity_models.make("llama", directory, parity_models.SMALL, seed)
    parity_text.save_tokenizer(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    ids = [tokenizer.convert_tokens_to_ids(sign) for sign in "+-"]
    return _rewards(
      tokenizer,
      lambda text: torch.softmax(model(text).logits[0][:, ids], -1)[:, 0],
    )
  config = transformers.Qwen2Config(
    **_SIZES, num_labels=1 if name == "scalar" else 2, eos_token_id=1
  )
  width = config.hidden_size
  layers = {
    "mlp": torch.nn.Sequential(
      torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
    ),
    "classifier": torch.nn.Linear(width, 2),
    "scalar": torch.nn.Linear(width, 1, bias=False),
  }
  whole = torch.nn.Module()
  whole.model, whole.score = transformers.Qwen2Model(config), layers[name]
  _save(name, whole, config, directory)
  parity_text.save_tokenizer(directory)
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)

  def reward(text):
    logits = whole.score(whole.model(text).last_hidden_state)[0]
    if name == "scalar":
      return torch.sigmoid(logits[:, 0])
    return torch.softmax(logits, -1)[:, 1]

  return _rewards(tokenizer, reward)


NAMES = {
  "mlp": "Qwen2ForProcessRewardModel",
  "classifier": "Qwen2ForTokenClassification",
  "scalar": "Qwen2ForSequenceClassification",
  "tokens": "LlamaForCausalLM",
}


def _save(name: str, whole: Any, config: Any, directory: pathlib.Path) -> None:
  import safetensors.torch
  import torch

  with torch.no_grad():
    for weight in whole.parameters():
      scale = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.3
      drawn = torch.randn_like(weight) * scale
      weight.copy_(drawn if weight.ndim > 1 else weight + drawn)
      weight.copy_(weight.bfloat16().float())
  whole.eval()
  directory.mkdir(parents=True, exist_ok=True)
  tensors = {
    k: v.bfloat16().contiguous() for k, v in whole.state_dict().items()
  }
  safetensors.torch.save_file(tensors, directory / "model.safetensors")
  raw = {**config.to_dict(), "architectures": [NAMES[name]]}
  (directory / "config.json").write_text(json.dumps(raw, indent=1, default=str))


def _rewards(tokenizer: Any, reward: Callable[[Any], Any]) -> list[float]:
  """At every separator of the whole text."""
  import torch

  mark = FORMAT.separator
  text = PROMPT + FORMAT.between.join(step + mark for step in STEPS)
  ids = torch.tensor([tokenizer.encode(text)])
  at = ids[0] == tokenizer.convert_tokens_to_ids(mark)
  with torch.no_grad():
    return reward(ids)[at].tolist()


def write_goldens(folder: pathlib.Path, seed: int) -> None:
  """Writes the models, and what transformers and torch make of the steps."""
  for name in NAMES:
    directory = folder / f"reward_{name}"
    rewards = make(name, directory, seed)
    for file in ("tokenizer.json", "tokenizer_config.json"):
      (directory / file).unlink()  # all share one
    (directory / "rewards.json").write_text(json.dumps(rewards))


def claims(folder: pathlib.Path, seed: int) -> list[results.Claim]:
  """The largest difference of a reward, of each kind."""
  found = []
  for name in NAMES:
    theirs = make(name, folder / f"reward_{name}", seed)
    mine = ours(folder / f"reward_{name}")
    gap = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    print(name, mine, theirs, flush=True)
    found.append(
      results.Claim(
        f"max_reward_difference_{name}", gap, bar=1e-4, comparison="<="
      )
    )
  return found
