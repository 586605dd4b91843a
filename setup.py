# SPDX-License-Identifier: Apache-2.0
"""Installs jaxttc; its extras bring what only some of its rooms need."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_INIT = (_ROOT / "jaxttc" / "__init__.py").read_text(encoding="utf-8")
_README = _ROOT / "README.md"

_CORE = [
  "jax>=0.10.2,<0.12",
  "flax>=0.12.8,<0.13",
  "optax>=0.2.8,<0.3",
  "orbax-checkpoint>=0.12.8,<0.13",
  "chex>=0.1.92,<0.2",
  "absl-py>=2.5,<3",
  "ml-collections>=1.1,<2",
  "jaxtyping>=0.3.11,<0.4",
  "numpy>=2.1,<3",
  "scipy>=1.15,<2",
  "rich>=14,<16",
  "pyyaml>=6,<7",
  "safetensors>=0.6,<0.9",
]

_EXTRAS = {
  "hf": ["tokenizers>=0.22,<1", "jinja2>=3.1.6,<4"],
  "data": ["grain>=0.2.18,<0.3"],
  "vision": ["grain>=0.2.18,<0.3", "pillow>=11,<14"],
  "math": ["math-verify>=0.9,<0.10"],
  "serve": [
    "starlette>=1.0,<2",
    "uvicorn>=0.40,<1",
    "prometheus-client>=0.22,<1",
    "httpx>=0.28.1,<1",
  ],
  "plot": ["matplotlib>=3.10,<4"],
  "energy": ["nvidia-ml-py>=13.580,<14"],
  "trees": ["scikit-learn>=1.7,<2"],
  "tables": ["pandas>=2.3,<4", "pyarrow>=21,<28"],
  "embed": ["sentence-transformers>=5,<7"],
  "log": ["tensorboardX>=2.6.4,<3"],
  "bench": [
    "torch>=2.8,<3",
    "transformers>=5,<6",
    "trl>=1.16,<2",
    "mctx>=0.0.71,<0.1",
  ],
}
_EXTRAS["test"] = [
  *_EXTRAS["hf"],
  *_EXTRAS["math"],
  *_EXTRAS["plot"],
  *_EXTRAS["log"],
  *_EXTRAS["serve"],
  *_EXTRAS["tables"],
  *_EXTRAS["trees"],
  *_EXTRAS["vision"],
  "beartype>=0.22,<0.24",
  "hypothesis>=6.150,<7",
  "mctx>=0.0.71,<0.1",
  "openai>=3.50,<4",
  "pytest>=9,<10",
  "pytest-timeout>=2.4,<3",
  "pytest-xdist>=3.8,<4",
]
_EXTRAS["dev"] = [*_EXTRAS["test"], "pyrefly>=1.4,<2", "ruff>=0.17,<0.18"]

setuptools.setup(
  name="jaxttc",
  version=re.search(r'__version__ = "([^"]+)"', _INIT).group(1),
  description="Compute budgets as values: spend, predict and account, in JAX.",
  long_description=(
    _README.read_text(encoding="utf-8") if _README.exists() else ""
  ),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  packages=setuptools.find_packages(include=["jaxttc*"]),
  package_data={
    "jaxttc": [
      "py.typed",
      "pretrained/*.safetensors",
      "pretrained/*.json",
      "pretrained/*.npz",
      "tasks/multitask/*.npz",
    ],
  },
  python_requires=">=3.11",
  install_requires=_CORE,
  extras_require=_EXTRAS,
  classifiers=[
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)
