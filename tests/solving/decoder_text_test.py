# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.decoders import base
from jaxttc.solving import decoder_text


def test_name_alone_has_no_arguments():
  assert decoder_text.parse("dvts") == ("dvts", {}, None, None)


def test_temperature_is_no_argument_of_the_decoder():
  assert decoder_text.parse("greedy").temperature == 0
  said = decoder_text.parse("best_of_n(n=2)", "temperature=0.5")
  assert said == ("best_of_n", {"n": 2}, 0.5, None)
  assert decoder_text.build("best_of_n(n=2, temperature=0.5)").shape.nodes == 3


def test_verifications_are_no_argument_of_the_decoder():
  text = "best_of_n(n=2, verifications=3)"
  said = decoder_text.parse(text)
  assert said == ("best_of_n", {"n": 2}, None, 3)
  assert decoder_text.parse(decoder_text.written(text)) == said
  for wrong in ("0", "1.5", "True"):
    with pytest.raises(ValueError, match="whole number >= 1"):
      decoder_text.parse(f"best_of_n(n=2, verifications={wrong})")


def test_setting_goes_before_the_text():
  text = "astar(children=4, f_tolerance=0.05, select='best')"
  name, arguments, *_ = decoder_text.parse(text, "children=2, nodes=64")
  assert name == "astar"
  assert arguments == {
    "children": 2,
    "f_tolerance": 0.05,
    "select": "best",
    "nodes": 64,
  }


def test_builds_with_the_sizes_asked_for():
  decoder = decoder_text.build("best_of_n", "n=3")
  assert decoder.shape == base.SearchShape(nodes=4, asks=1, children=3)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("astr(children=4)", "did you mean 'astar'"),
    ("astar(childen=4)", "did you mean 'children'"),
    ("best_of_n(n=0)", "n must be at least 1, got 0"),
    ("best_of_n", "needs the argument 'n'"),
    ("best_of_n(4)", "not of the form"),
    ("best_of_n(n=__import__('os'))", "must be a literal"),
    ("best_of_n(**{'n': 4})", "not of the form"),
    ("astar(children=4", "not of the form"),
    ("a.b(n=4)", "not of the form"),
    ("best_of_n(n='four')", "best_of_n"),
    ("", "not of the form"),
    ("best_of_n(n=2, temperature='hot')", "temperature must be a number"),
    ("budget_forcing", "needs a controller"),
  ],
)
def test_bad_text_is_refused_in_one_line(text, message):
  with pytest.raises(ValueError, match=".*") as caught:
    decoder_text.build(text)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_bad_setting_is_refused():
  with pytest.raises(ValueError, match="not of the form"):
    decoder_text.parse("best_of_n", "n=")


@pytest.mark.parametrize(
  ("text", "reads"),
  [
    ("likelihood_beam(width=2)", True),
    ("puct(prior='logprob')", True),
    ("astar(edge_cost='neglogp')", True),
    ("astar(children=4)", False),
    ("best_of_n", False),
  ],
)
def test_decoders_that_read_logprobs(text, reads):
  assert decoder_text.reads_logprobs(text) == reads


@pytest.mark.parametrize(
  ("text", "setting"),
  [("greedy", ""), ("best_of_n(wave=1)", "n=4, temperature=0.6"), ("dvts", "")],
)
def test_written_says_both_at_once(text, setting):
  written = decoder_text.written(text, setting)
  assert decoder_text.parse(written) == decoder_text.parse(text, setting)
