"""The table of kinds: what an automaton reaches on the 1-D ARC beside what others do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellgraph.texts import escaped_markdown, markdown_table

#: Accuracy in per cent of GPT-4 and of a neural cellular automaton, by kind (table 2 of arXiv 2410.02651).
PUBLISHED: dict[str, tuple[int, int]] = {
    "1d_move_1p": (66, 100),
    "1d_move_2p": (26, 100),
    "1d_move_3p": (24, 100),
    "1d_move_dp": (22, 12),
    "1d_move_2p_dp": (34, 98),
    "1d_fill": (66, 66),
    "1d_padded_fill": (26, 28),
    "1d_hollow": (56, 98),
    "1d_flip": (70, 28),
    "1d_mirror": (20, 6),
    "1d_denoising_1c": (36, 100),
    "1d_denoising_mc": (60, 58),
    "1d_pcopy_1c": (36, 100),
    "1d_pcopy_mc": (38, 100),
    "1d_recolor_oe": (32, 0),
    "1d_recolor_cnt": (28, 0),
    "1d_recolor_cmp": (20, 0),
    "1d_scale_dp": (88, 88),
}
#: The mean over the kinds that the same table gives.
PUBLISHED_MEAN = (41.56, 60.12)
#: The automaton that is told the kind and sees no demonstration: `experiment=arc1d`, mean of three seeds, by kind
#: (benchmarks/RESULTS.md, "1-D ARC").
TOLD: dict[str, float] = {
    **dict.fromkeys(PUBLISHED, 100.0),
    "1d_move_dp": 85.3,
    "1d_padded_fill": 92.7,
    "1d_mirror": 88.0,
    "1d_pcopy_mc": 99.3,
    "1d_recolor_oe": 1.3,
    "1d_recolor_cnt": 0.0,
    "1d_recolor_cmp": 0.0,
    "1d_scale_dp": 99.3,
}
TOLD_MEAN = 81.4


def table_of_kinds(
    kinds: Sequence[str], figures: Mapping[str, float], *, told: bool = False, judged: str = "test"
) -> str:
    """Exact match by kind in per cent, in Markdown; that of the tests beside the published figures.

    Args:
        kinds: The kinds, in the order of the rows.
        figures: Exact match by kind, from 0 to 1.
        told: Whether the automaton that is told the kind stands beside it, too.
        judged: What was judged: published are figures of all tests.
    """
    mean = 100 * sum(figures[kind] for kind in kinds) / len(kinds)
    rows = [[escaped_markdown(kind.removeprefix("1d_")), f"{100 * figures[kind]:.0f}"] for kind in kinds]
    rows.append(["mean over kinds", f"{mean:.2f}"])
    columns = ["kind", "this automaton" if judged == "test" else f"this automaton, {judged}"]
    if judged == "test":
        published = [[*map(str, PUBLISHED.get(kind, ("-", "-")))] for kind in kinds] + [[*map(str, PUBLISHED_MEAN)]]
        own = [[f"{TOLD[kind]:.0f}" if kind in TOLD else "-"] if told else [] for kind in kinds]
        own.append([f"{TOLD_MEAN}"] if told else [])
        rows = [[*row, *beside, nca, gpt4] for row, beside, (gpt4, nca) in zip(rows, own, published, strict=True)]
        columns += [*(["told the kind"] if told else []), "published NCA", "GPT-4"]
    return "\n".join(markdown_table(columns, rows)) + "\n"
