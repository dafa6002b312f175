"""Compiling a program: where stages are cut, what is shipped, names, hash and drawings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash import App, Topology
from kstash.errors import TopologyError


def word_count(app: App) -> None:
    """The program of the README."""
    (
        app.stream("sentences", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
        .to("word-counts", key=kstash.text, value=kstash.int_text)
    )


def compiled(program: Callable[[App], Any], application_id: str = "app") -> Topology:
    """The topology of a program."""
    app = App(application_id)
    program(app)
    return app.topology()


def ends(topology: Topology) -> list[tuple[str, list[str], list[str], list[str]]]:
    """(stage name, inputs, stores, outputs) of each stage."""
    return [
        (
            stage.name,
            [entry.topic for entry in stage.inputs],
            [store.name for store in stage.stores],
            [output.topic for output in stage.outputs],
        )
        for stage in topology.stages
    ]


def test_word_count_has_two_stages_joined_by_a_topic() -> None:
    """A key_by before state cuts, and everything is named after the operator after it."""
    topology = compiled(word_count, "wc")
    assert ends(topology) == [
        ("from-sentences", ["sentences"], [], ["wc-words-repartition"]),
        ("words", ["wc-words-repartition"], ["words"], ["word-counts"]),
    ]
    assert topology.lineage_topic == "wc-lineage"
    assert topology.internal_topics == ("wc-words-repartition",)
    assert topology.output_topics == ("word-counts",)


def test_values_are_not_shipped_where_only_count_follows() -> None:
    """Both ends of the wide edge know that there is no value column."""
    first, second = compiled(word_count).stages
    assert first.outputs[0].value is None
    assert second.inputs[0].value is None
    assert second.inputs[0].key is kstash.text


def test_values_are_shipped_where_someone_looks_at_them() -> None:
    """One reader after the edge is enough, also beside a count."""

    def program(app: App) -> None:
        keyed = app.stream("in", value=kstash.text).key_by(len, key=kstash.int_text)
        keyed.count("n")
        keyed.filter(str.isalpha).count("alphabetic")

    topology = compiled(program)
    assert topology.stages[0].outputs[0].value is kstash.text
    assert ends(topology)[1][2] == ["n", "alphabetic"]


def test_key_by_without_state_moves_nothing() -> None:
    """Only keyed state needs equal keys in one task: else the key just changes."""

    def program(app: App) -> None:
        app.stream("in", value=kstash.text).key_by(len, key=kstash.int_text).to("out")

    assert ends(compiled(program)) == [("from-in", ["in"], [], ["out"])]


def test_only_the_last_key_by_before_state_is_wide() -> None:
    """A key that is replaced before state is not moved by."""

    def program(app: App) -> None:
        stream = app.stream("in", value=kstash.text).key_by(len, key=kstash.int_text)
        stream.key_by(str.lower, key=kstash.text).count("n")

    assert ends(compiled(program)) == [
        ("from-in", ["in"], [], ["app-n-repartition"]),
        ("n", ["app-n-repartition"], ["n"], []),
    ]


def test_repartition_is_always_wide_and_keeps_the_key() -> None:
    """It names its topic itself."""

    def program(app: App) -> None:
        app.stream("in", key=kstash.text).repartition("spread").to("out")

    topology = compiled(program)
    assert ends(topology) == [
        ("from-in", ["in"], [], ["app-spread-repartition"]),
        ("from-spread", ["app-spread-repartition"], [], ["out"]),
    ]
    assert topology.stages[1].inputs[0].key is kstash.text


def test_stages_stand_in_the_order_of_the_flow() -> None:
    """Two wide edges make three stages, whatever was declared first."""

    def program(app: App) -> None:
        counts = app.stream("in", key=kstash.text).count("first")
        per_count = counts.key_by(lambda count: count, key=kstash.int_text)
        per_count.count("second").to("out")
        app.stream("other").to("copy")

    assert [stage.name for stage in compiled(program).stages] == ["first", "from-other", "second"]


def test_merge_puts_its_topics_into_one_stage() -> None:
    """Several topics are several inputs of one task; without state any partition counts do."""

    def program(app: App) -> None:
        merged = app.stream("a", "b", value=kstash.text).merge(app.stream("c", value=kstash.text))
        merged.key_by(len, key=kstash.int_text).count("n")

    topology = compiled(program)
    assert ends(topology)[0][1] == ["a", "b", "c"]
    assert [stage.needs_copartitioning for stage in topology.stages] == [False, False]


def test_state_over_several_topics_needs_equal_partition_counts() -> None:
    """State right after a merge of topics is recorded, for the check at the start."""
    topology = compiled(lambda app: app.stream("a", "b", key=kstash.text).count("n"))
    assert topology.stages[0].needs_copartitioning


def test_state_of_one_of_several_topics_does_not() -> None:
    """A stage with several inputs may keep state of one of them alone."""

    def program(app: App) -> None:
        first = app.stream("a", key=kstash.text)
        first.count("n")
        first.merge(app.stream("b", key=kstash.text)).to("out")

    assert not compiled(program).stages[0].needs_copartitioning


def test_several_edges_to_one_operator_have_names_of_their_own() -> None:
    """Each wide edge is a topic: the first has the operator's name, others a number."""

    def program(app: App) -> None:
        left = app.stream("a", value=kstash.text).key_by(len, key=kstash.int_text)
        right = app.stream("b", value=kstash.text).key_by(len, key=kstash.int_text)
        left.merge(right).count("n")

    topology = compiled(program)
    assert topology.internal_topics == ("app-n-repartition", "app-n_2-repartition")


def test_a_second_edge_of_a_given_name_is_refused() -> None:
    """Given names are never changed."""

    def program(app: App) -> None:
        app.stream("a", key=kstash.text).repartition("x").to("b")
        app.stream("c", key=kstash.text).repartition("x").to("d")

    with pytest.raises(TopologyError, match="a second wide edge named 'x'"):
        compiled(program)


def test_a_stage_that_feeds_itself_is_refused() -> None:
    """Records from before and from after a wide edge cannot be merged: that is a cycle."""

    def program(app: App) -> None:
        stream = app.stream("in", key=kstash.text, value=kstash.int_text)
        counts = stream.key_by(str, key=kstash.text).count("n")
        stream.merge(counts).to("out")

    with pytest.raises(TopologyError, match="would make a stage its own input") as caught:
        compiled(program)
    assert caught.value.location is not None


def test_two_outputs_of_a_stage_to_one_topic_are_refused() -> None:
    """Their order would not be defined; a merge defines it."""

    def program(app: App) -> None:
        stream = app.stream("in", value=kstash.text)
        stream.filter(len).to("out")
        stream.filter_not(len).to("out")

    with pytest.raises(TopologyError, match=r"merge\(\) them before to\(\)"):
        compiled(program)


def test_branches_that_lead_nowhere_are_left_out() -> None:
    """Nodes without an effect after them are not run, and their sources not read."""

    def program(app: App) -> None:
        app.stream("unused").map(len)
        kept, _ = app.stream("in").split(len)
        kept.to("out")
        app.stream("watched").peek(print)

    topology = compiled(program)
    assert ends(topology) == [
        ("from-in", ["in"], [], ["out"]),
        ("from-watched", ["watched"], [], []),
    ]
    assert [type(node).__name__ for node in topology.stages[0].nodes] == ["Split", "Port", "Sink"]


def test_another_applications_immediate_sink_is_marked() -> None:
    """The input says whose reader rule it needs."""
    topology = compiled(lambda app: app.stream("in", immediate_of="upstream").to("out"))
    assert topology.stages[0].inputs[0].immediate_of == "upstream"


def test_the_hash_is_stable() -> None:
    """The same program has the same hash in every process; it is pinned here on purpose."""
    assert compiled(word_count, "wc").hash == compiled(word_count, "wc").hash
    assert compiled(word_count, "wc").hash == (
        "412a1ae4b1d6334d6de0b2537a399a4ec5f31bc12d19b8f605a05b67cfe3c6de"
    )


def test_the_hash_knows_names_serdes_topics_and_kinds_but_no_functions() -> None:
    """What a replay depends on changes the hash, as far as it has a name."""

    def variant(
        *,
        topic: str = "in",
        serde: kstash.Serde[Any] = kstash.text,
        name: str = "n",
        verb: str = "filter",
        function: Callable[[Any], Any] = len,
    ) -> str:
        def program(app: App) -> None:
            stream = app.stream(topic, key=serde, value=kstash.text)
            getattr(stream, verb)(function).count(name).to("out")

        return compiled(program).hash

    changed = [
        variant(topic="other"),
        variant(serde=kstash.raw),
        variant(name="m"),
        variant(verb="filter_not"),
    ]
    assert len({variant(), *changed}) == 5
    assert variant(function=lambda value: not value) == variant()


def test_text_shows_stages_edges_topics_and_stores() -> None:
    """The drawing for the terminal."""
    lines = compiled(word_count, "wc").describe().splitlines()
    assert lines[0].startswith("application wc (")
    assert lines[1:] == [
        "stage 0 from-sentences",
        "  in     sentences (user topic; key raw, value text)",
        "         flat_map(split)",
        "  out    key_by(lambda) -> wc-words-repartition "
        "(wide, internal; key text, value not shipped)",
        "stage 1 words",
        "  in     wc-words-repartition (wide, internal; key text, value not shipped)",
        "         count(words)",
        "  store  words",
        "  out    -> word-counts (user topic, immediate; key text, value int_text)",
    ]


def test_mermaid_and_dot_mark_wide_edges() -> None:
    """Wide edges are drawn thick, in both languages."""
    topology = compiled(word_count, "wc")
    mermaid = topology.describe("mermaid")
    assert mermaid.startswith("flowchart LR")
    assert mermaid.count("==>") == 2
    assert '[/"store words"/]' in mermaid
    dot = topology.describe("dot")
    assert dot.startswith("digraph")
    assert dot.count("penwidth=3") == 2
    assert dot.count("{") == dot.count("}")


def test_json_is_for_tools() -> None:
    """The same facts as data."""
    described = json.loads(compiled(word_count, "wc").describe("json"))
    assert described["application_id"] == "wc"
    assert [stage["stores"] for stage in described["stages"]] == [[], ["words"]]
    assert described["stages"][0]["outputs"][0] == {
        "id": 2,
        "topic": "wc-words-repartition",
        "internal": True,
        "key": "text",
        "value": None,
        "delivery": None,
    }


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    """A typing error is answered with what there is."""
    with pytest.raises(TopologyError, match="did you mean 'mermaid'"):
        compiled(word_count).describe("mermade")


def test_drawings_of_branches_name_the_parents() -> None:
    """Where a step does not continue the line above, the text says where it comes from."""

    def program(app: App) -> None:
        lines = app.stream("log", value=kstash.text)
        xss = lines.filter(lambda line: "x" in line)
        sqli = lines.filter(lambda line: "y" in line)
        xss.merge(sqli).to("attacks")

    text = compiled(program).describe()
    assert "filter(lambda) (of log)" in text
    assert "merge (of filter(lambda), filter(lambda))" in text
