"""Which sites of a study have not said anything of themselves yet, and what is known of that."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from privacy.study.manifest import Study
from server.nodes import Node


def unheard_sites(study: Study, nodes: Mapping[int, Node]) -> list[str]:
    """The names of the sites for which no node has spoken."""
    named = {entry.facts.name for entry in nodes.values() if entry.facts}
    return [site.name for site in study.sites if site.name not in named]


def troubles_of(nodes: Mapping[int, Node]) -> list[str]:
    """What the nodes say that speak for no site; nobody has proved whose they are."""
    speechless = [entry for entry in nodes.values() if not entry.facts]
    return sorted({entry.trouble for entry in speechless if entry.trouble})


def awaited_words(study: Study, nodes: Mapping[int, Node], online: Collection[int]) -> str:
    """Who has not joined, and what the nodes say that may be theirs; "" if everybody has.

    `online`: the nodes that are connected now.
    """
    absent = unheard_sites(study, nodes)
    if not absent:
        return ""
    sites = len(study.sites)
    there = f"{', '.join(absent)} ({sites - len(absent)} of {sites} are there)."
    if troubles := troubles_of(nodes):
        return f"{there} Nodes that speak for no site report: {' / '.join(troubles)}"
    silent = sum(node not in nodes or nodes[node].facts is None for node in online)
    if silent:
        return f"{there} Gateways that have not answered yet: {silent}."
    return f"{there} No other gateway is connected."
