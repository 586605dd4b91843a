# SPDX-License-Identifier: Apache-2.0
"""The rules' figures; `rules.Rule` explains the fields.

Read from the texts cited and from public summaries of them. Which phases a
rule counts is our reading. Not legal advice.
"""

from typing import Any

_READ = "2026-11-23"
_ORDER = "Executive Order 14110 of 30 October 2023, section 4.2(b)"
_ORDER_DAYS = dict(
  status="rescinded",
  read=_READ,
  start="2023-10-30",
  end="2025-01-20",
  note="rescinded by an executive order of 20 January 2025; nothing in force "
  "took its place",
)
_ACT = "Regulation (EU) 2024/1689 (AI Act)"
_GUIDELINES = (
  "European Commission, Guidelines on the scope of the obligations for general-"
  "purpose AI models, published 18 July 2025 (C(2025) 5045)"
)
_GUIDANCE_DAYS = dict(status="guidance", read=_READ, start="2025-08-02")
_GENERATES = "does it generate language, images or video?"
_MODIFIED = "is it a modification of another provider's model?"
_TOOK_PART = (
  "data_generation",
  "pre_training",
  "fine_tuning",
  "rl_rollout",
  "rl_update",
  "distillation",
)

ENTRIES: tuple[dict[str, Any], ...] = (
  dict(
    name="eu-systemic-risk",
    bounds=(("training_flop", ">", 1e25),),
    scope="presumed to have high-impact capabilities: a general-purpose model "
    "with systemic risk",
    citation=f"{_ACT}, Article 51(2)",
    status="in force",
    read=_READ,
    start="2025-08-02",
    phases=_TOOK_PART,
    facts=("is it a general-purpose model?",),
    note="a presumption that a provider may rebut; cumulative over training",
  ),
  dict(
    name="eu-general-purpose",
    bounds=(("training_flop", ">", 1e23),),
    scope="indicatively a general-purpose AI model",
    citation=f"{_GUIDELINES}, indicative criterion",
    phases=_TOOK_PART,
    facts=(_GENERATES,),
    **_GUIDANCE_DAYS,
    note="indicative both ways; models of one narrow task stay outside",
  ),
  dict(
    name="eu-modification",
    bounds=(("modification_share", ">", 1 / 3),),
    scope="whoever modifies becomes the provider of the modified model",
    citation=f"{_GUIDELINES}, downstream modifiers",
    phases=_TOOK_PART,
    facts=(_MODIFIED,),
    **_GUIDANCE_DAYS,
    note="a third exactly is not above it",
  ),
  dict(
    name="eu-modification-unknown-original",
    bounds=(("modification_flop", ">", 1e23 / 3),),
    scope="whoever modifies becomes the provider, where nobody says what the "
    "original took",
    citation=f"{_GUIDELINES}, downstream modifiers",
    phases=_TOOK_PART,
    facts=(_MODIFIED, "is the original's training compute unknown?"),
    **_GUIDANCE_DAYS,
    note="a third of the threshold that the original would have passed; a "
    "third of 1e25 if it has systemic risk",
  ),
  dict(
    name="us-eo14110-model",
    bounds=(("training_flop", ">", 1e26),),
    scope="developers had to report training, security and tests",
    citation=f"{_ORDER}(i)",
    **_ORDER_DAYS,
  ),
  dict(
    name="us-eo14110-biological",
    bounds=(("training_flop", ">", 1e23),),
    scope="as above, for models of biological sequences",
    citation=f"{_ORDER}(i)",
    facts=("is it trained primarily on biological sequence data?",),
    **_ORDER_DAYS,
  ),
  dict(
    name="us-eo14110-cluster",
    bounds=(("cluster_flop_per_s", ">", 1e20),),
    scope="owners had to report the cluster",
    citation=f"{_ORDER}(ii)",
    facts=(
      "is it in one data centre?",
      "are its machines linked at over 100 Gbit/s?",
    ),
    **_ORDER_DAYS,
  ),
  dict(
    name="us-ca-sb1047",
    bounds=(
      ("training_flop", ">", 1e26),
      ("training_dollars", ">", 1e8),
    ),
    scope="would have been a covered model",
    citation="California Senate Bill 1047 (2023-2024), as enrolled",
    status="vetoed",
    read=_READ,
    note="vetoed on 29 September 2024, never in force",
  ),
  dict(
    name="us-ca-sb53",
    bounds=(("training_flop", ">", 1e26),),
    scope="a frontier model: its developer has duties of transparency",
    citation="California Senate Bill 53 (2025), Transparency in Frontier "
    "Artificial Intelligence Act, Business and Professions Code 22757.11",
    status="in force",
    read=_READ,
    start="2026-01-01",
    note="counts the original training and what came after: fine-tuning, "
    "reinforcement learning, other modifications; large developers (revenue "
    "above $500M) have more duties",
  ),
)
