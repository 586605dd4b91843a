# SPDX-License-Identifier: Apache-2.0
r"""Serves a model over HTTP, as OpenAI's API does, with budgets on top.

    python scripts/serve.py
    python scripts/serve.py --port=8080 --api_key_env=MY_KEY \
      --config.policy=policy.safetensors --config.verifier=prm.safetensors \
      --config.slots=64 --config.limits.queue=1000 --config.limits.drain_s=10
    python scripts/serve.py --config.policy=Llama-3.2-1B-Instruct \
      --config.verifier= --dtype=int8

    python scripts/serve.py --config.policy=runs/router.npz

    python scripts/serve.py --config=configs/serve_thinking.py \
      --thinking="guided(budget=14)"

--dtype (float32, bfloat16, float16 or int8), --attention (auto, plain or fused)
and --thinking (how a model that thinks keeps a request's budget) are short for
--config.dtype, --config.attention and --config.thinking.
docs/serving.md says what requests may ask for. SIGTERM ends it cleanly.
"""

import pathlib

from absl import app, flags

from jaxttc import arguments, script

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = arguments.define_config(
  "config",
  str(_ROOT / "configs" / "serve.py"),
  "File with get_config() -> ServeRecipe.",
)
_DTYPE = flags.DEFINE_string("dtype", None, "What models are kept in.")
_ATTENTION = flags.DEFINE_string("attention", None, "How they compute it.")
_THINKING = flags.DEFINE_string("thinking", None, "How the model thinks.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen at.")
_PORT = flags.DEFINE_integer("port", 8000, "Port; 0 for any.", 0, 65535)
_KEY = flags.DEFINE_string(
  "api_key_env", "", "Environment variable with the API key; '' for none."
)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  try:
    from jaxttc.serving import server
  except ImportError as error:
    raise SystemExit(
      f"serve.py: no module {error.name!r}; expected pip install "
      "'jaxttc[serve]'"
    ) from None
  recipe = _CONFIG.value
  recipe.dtype = _DTYPE.value or recipe.dtype
  recipe.attention = _ATTENTION.value or recipe.attention
  recipe.thinking = _THINKING.value or recipe.thinking
  try:
    server.serve(
      recipe,
      host=_HOST.value,
      port=_PORT.value,
      api_key_env=_KEY.value,
      ready=lambda url: print(f"serving at {url}/v1", flush=True),
    )
  except ValueError as error:
    raise SystemExit(f"serve.py: {error}") from None


if __name__ == "__main__":
  script.run(main, __file__)
