"""Plans: what they say, and what is no plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellgraph.data import starter_pairs
from cellgraph.data.generation import Plan, Topic, read_plan

OWN = """
pairs: 20
categories:
  nature: [rivers, stones]
  craft:
    style: Be brief.
    topics:
      - {topic: knots, pairs: 10, note: For sailors.}
      - weaving
"""


def test_a_plan_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(OWN)
    plan = read_plan(path)
    assert plan.topics == (
        Topic("nature", "rivers", 20),
        Topic("nature", "stones", 20),
        Topic("craft", "knots", 10, "Be brief. For sailors."),
        Topic("craft", "weaving", 20, "Be brief."),
    )
    assert plan.pairs == 70
    assert plan.chosen(categories=["craft"], pairs=3).topics == (
        Topic("craft", "knots", 3, "Be brief. For sailors."),
        Topic("craft", "weaving", 3, "Be brief."),
    )
    with pytest.raises(ValueError, match="no category 'art'; its categories are 'nature', 'craft'"):
        plan.chosen(categories=["art"])
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        plan.chosen(pairs=0)


def test_the_shipped_plan_has_the_topics_of_the_starter_set() -> None:
    planned = [(topic.category, topic.name) for topic in read_plan().topics]
    assert planned == list(dict.fromkeys((pair.category, pair.topic) for pair in starter_pairs()))
    assert all(topic.note for topic in read_plan().topics)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the plan must be a mapping with pairs, categories, got nothing"),
        ("- rivers", "the plan must be a mapping"),
        ("{", "no YAML"),
        ("pairs: 3", "categories must map names to topics, got nothing"),
        ("categories: {}", "categories must map names to topics"),
        ("categories: {a: [b]}\nrounds: 3", "unknown key 'rounds'; known are pairs, categories"),
        ("categories: {a: []}", "category 'a' must have a list of topics"),
        ("categories: {a: b}", "category 'a' must be a mapping with style, topics, got 'b'"),
        ("categories: {a: [b, B]}", "the topic 'B' twice"),
        ("categories: {a: [1]}", "a topic of 'a' must be text, got 1"),
        ("categories: {1: [b]}", "the name of a category must be text, got 1"),
        ("categories: {a: [{topic: b, pairs: 0}]}", "the pairs of 'b' must be at least 1, got 0"),
        ("categories: {a: [{topic: b, pairs: many}]}", "the pairs of 'b' must be an integer, got 'many'"),
        ("categories: {a: [{name: b}]}", "unknown key 'name'"),
        ("pairs: 1.5\ncategories: {a: [b]}", "pairs must be an integer"),
    ],
)
def test_what_is_no_plan_is_told_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - what it says comes next
        read_plan(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(ValueError, match="no YAML"):
        read_plan(path)


def test_a_date_that_is_none_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("categories: {a: [2024-02-31]}")
    with pytest.raises(ValueError, match=r"plan\.yaml: no YAML: day"):
        read_plan(path)


def test_a_plan_without_topics() -> None:
    with pytest.raises(ValueError, match="no topics"):
        Plan(())
