"""What is on the figures: the numbers of the record."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex

from probebench.catalog.taps import SITES
from probebench.errors import ProbebenchError, UnknownName
from probebench.records.contrasts import CONTRASTS
from probebench.records.view import RecordView
from probebench.reporting.figures.drawing import draw, figures
from probebench.reporting.figures.options import FigureOptions
from probebench.reporting.figures.style import WIDTH, look, paper, wrapped
from probebench.reporting.palette import COLOURS, DASHES, SHAPES
from tests.records.places import placed
from tests.records.pools import pooled
from tests.records.samples import right, stored
from tests.reporting.html.records import DEPTH, count, full


def drawn(record, **wanted):
    with paper():
        return figures(RecordView(record, ""), FigureOptions(**wanted))


@pytest.fixture(scope="module")
def of_full():
    return drawn(full(), tuned={"net_tuned": "net"})


def cases(model, dataset, site):
    found = {c["layer"]: c for c in full()["cases"] if (c["model"], c["dataset"], c["site"]) == (model, dataset, site)}
    return [found[layer] for layer in sorted(found)]


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def legend(figure):
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def bands(figure):
    """By colour, the ends of the intervals at each place."""
    found = {}
    for band in figure.axes[0].collections:
        ends = {}
        for x, y in band.get_paths()[0].vertices:
            ends.setdefault(x, set()).add(y)
        found[to_hex(band.get_facecolor()[0])] = {x: (min(ys), max(ys)) for x, ys in ends.items()}
    return found


def test_each_kind_of_figure_is_drawn_where_it_should_be(of_full):
    found, notes = of_full
    runs = [("net", "easy"), ("net", "hard"), ("net_random", "easy"), ("net_random", "hard"), ("net_tuned", "easy")]
    assert set(found) == {
        *("depth-easy", "depth-hard", "best-net", "best-net_random", "best-net_tuned"),
        *(f"sites-{model}-{dataset}" for model, dataset in runs),
    }
    assert notes == []
    for figure in found.values():
        assert figure.get_size_inches()[0] == WIDTH


def test_figures_by_depth_have_the_best_site_of_each_layer(of_full):
    figure = of_full[0]["depth-easy"]
    assert legend(figure) == ["pretrained", "fine-tuned", "random control", "output"]
    # Held-out images choose `act` of layer 3, elsewhere the best on test.
    for label, model in (("pretrained", "net"), ("fine-tuned", "net_tuned"), ("random control", "net_random")):
        best = [max(count(model, "easy", f"L{layer:02d}-{site}") for site in SITES) for layer in range(1, DEPTH + 1)]
        best[2] = count(model, "easy", "L03-act")
        line = lines(figure)[label]
        assert list(line.get_xdata()) == [1, 2, 3, 4]
        assert line.get_ydata() == pytest.approx([value / 10 for value in best])
        output = lines(figure)[f"_output {model}"]
        assert output.get_ydata() == pytest.approx([count(model, "easy", "output") / 10] * 2)
        assert output.get_color() == line.get_color()
    styles = [(line.get_color(), line.get_marker()) for name, line in lines(figure).items() if name[0] != "_"]
    assert len(set(styles)) == len(styles)
    assert lines(figure)["random control"].get_linestyle() == "--"


def test_figures_by_depth_show_a_site_and_its_intervals():
    found, _ = drawn(full(), site="ln2", models=["net"], datasets=["hard"])
    assert set(found) == {"depth-hard", "sites-net-hard", "best-net"}
    figure = found["depth-hard"]
    assert legend(figure) == ["pretrained", "random control", "output"]
    assert figure.get_suptitle() == "net, hard\nln2 of each layer"
    for label, model in (("pretrained", "net"), ("random control", "net_random")):
        own, line = cases(model, "hard", "ln2"), lines(figure)[label]
        assert line.get_ydata() == pytest.approx([100 * case["accuracy"] for case in own])
        band = bands(figure)[line.get_color()]
        for layer, case in enumerate(own, start=1):
            assert band[layer] == pytest.approx([100 * end for end in case["ci95"]])


def test_figures_by_site_have_all_sites_with_intervals_in_the_marks_of_the_report(of_full):
    figure = of_full[0]["sites-net-hard"]
    assert legend(figure) == [*SITES, "final", "output"]
    for mark, site in enumerate(SITES):
        own, line = cases("net", "hard", site), lines(figure)[site]
        assert line.get_color() == COLOURS[mark]
        assert line.get_ydata() == pytest.approx([100 * case["accuracy"] for case in own])
        for layer, case in enumerate(own, start=1):
            assert bands(figure)[COLOURS[mark]][layer] == pytest.approx([100 * end for end in case["ci95"]])
    for name in ("final", "output"):
        assert lines(figure)[name].get_ydata()[0] == pytest.approx(count("net", "hard", name) / 10)
    assert lines(figure)["final"].get_linewidth() < lines(figure)["output"].get_linewidth()


def test_the_best_of_each_site_stands_beside_its_dataset_with_its_interval(of_full):
    figure = of_full[0]["best-net"]
    assert legend(figure) == [*SITES, "final", "output"]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["easy", "hard"]
    by_site = {container.get_label(): container for container in axes.containers}
    for site in SITES:
        # On both datasets held-out images choose the layer that is best on test, except layer 3 for `act`.
        at = [3 if site == "act" else 4] * 2
        chosen = [cases("net", dataset, site)[layer - 1] for dataset, layer in zip(("easy", "hard"), at, strict=True)]
        marks, _, (intervals,) = by_site[site].lines
        assert marks.get_xdata() == pytest.approx([100 * case["accuracy"] for case in chosen])
        assert [round(y) for y in marks.get_ydata()] == [0, 1]
        for case, segment in zip(chosen, intervals.get_segments(), strict=True):
            assert segment[:, 0] == pytest.approx([100 * end for end in case["ci95"]])
    for name in ("final", "output"):
        assert lines(figure)[f"_{name} 1"].get_xdata()[0] == pytest.approx(count("net", "hard", name) / 10)


def test_models_of_several_bases_have_a_panel_each():
    found, notes = drawn(full(), datasets=["easy"])
    assert {"depth-net-easy", "depth-net_tuned-easy"} <= set(found)
    assert "depth-easy" not in found
    assert notes == ["depth-net_tuned-easy has no random control: the record has none of net_tuned on easy"]


def test_networks_of_other_depths_share_an_axis_of_relative_depth():
    record = full()
    for sweep in record["sweeps"]:
        if sweep["model"] == "net_tuned":
            sweep["depth"] = 8
    found, _ = drawn(record, tuned={"net_tuned": "net"}, datasets=["easy"])
    figure = found["depth-easy"]
    assert list(lines(figure)["pretrained"].get_xdata()) == [25, 50, 75, 100]
    assert list(lines(figure)["fine-tuned"].get_xdata()) == [12.5, 25, 37.5, 50]
    assert "depth" in figure.axes[0].get_xlabel()


def test_what_a_record_cannot_give_is_left_out_and_told():
    record = stored(
        {("net", "a"): {"L03-act": right(700), "final": right(600)}, ("net", "b"): {"final": right(1)}}
    ).record
    found, notes = drawn(record)
    assert set(found) == {"best-net"}
    assert notes == [
        "no depth-a: fewer than two layers were measured",
        "no depth-b: fewer than two layers were measured",
        "no sites-net-a: fewer than two layers were measured",
        "no sites-net-b: fewer than two layers were measured",
    ]
    found, notes = drawn(stored({("net", "a"): {"final": right(600)}}).record)
    assert found == {}
    assert notes[-1] == "no best-net: no site of a layer was measured"


def test_layers_that_were_measured_are_joined():
    taps = {"L02-act": right(500), "L06-act": right(700), "L12-act": right(600)}
    figure = drawn(stored({("net", "a"): taps}).record)[0]["sites-net-a"]
    assert legend(figure) == ["act"]
    assert list(lines(figure)["act"].get_xdata()) == [2, 6, 12]


def test_all_or_nothing_right_can_be_drawn():
    record = stored({("net", "a"): {"L01-act": right(0), "L02-act": right(1000), "L01-rc2": right(0)}}).record
    for case in record["cases"]:
        case["ci95"] = [end + 1e-17 if case["accuracy"] == 0 else end - 2e-16 for end in case["ci95"]]
    found, _ = drawn(record)
    assert set(found) == {"depth-a", "sites-net-a", "best-net"}


def test_names_that_look_like_formulas_are_drawn_as_they_are():
    taps = {"L01-act": right(500), "L02-act": right(700)}
    record = stored({("n$\\et_a$", "d^{$"): taps}).record
    files, _ = draw(record, FigureOptions(formats=["svg"]))
    assert "sites-n_et_a_-d_.svg" in files


def test_names_that_the_record_does_not_have_are_refused():
    for wanted, message in (
        ({"models": ["nte"]}, "unknown model 'nte'. Did you mean 'net'"),
        ({"datasets": ["esay"]}, "unknown dataset 'esay'. Did you mean 'easy'"),
        ({"site": "atc"}, "unknown site 'atc'. Did you mean 'act'"),
    ):
        with pytest.raises(UnknownName, match=message):
            draw(full(), FigureOptions(**wanted))
    with pytest.raises(ProbebenchError, match=r"net_tuned was not measured on hard"):
        draw(full(), FigureOptions(models=["net_tuned"], datasets=["hard"]))
    with pytest.raises(ProbebenchError, match="no case to draw"):
        draw(stored({}).record, FigureOptions())


def test_marks_differ_without_colour():
    shapes = [(str(look(mark)["marker"]), str(look(mark)["linestyle"])) for mark in range(len(SHAPES))]
    assert len({marker for marker, _ in shapes}) == len(SHAPES) == len(COLOURS) == len(DASHES)


def test_long_names_are_broken_into_lines():
    assert wrapped("digits_gaussian_noise", 18) == "digits_gaussian_\nnoise"
    assert wrapped("a b", 18) == "a b"
    assert wrapped("x" * 25, 10) == "\n".join(["x" * 10, "x" * 10, "x" * 5])
    assert all(len(line) <= 12 for line in wrapped("timm:vit_base_patch14_reg4_dinov2.lvd142m", 12).split("\n"))


def test_each_pooling_has_a_curve_of_the_best_site_of_each_layer():
    record = pooled(["far"]).record
    found, notes = drawn(record)
    assert set(found) == {"depth-far", "sites-net-far", "poolings-net-far", "best-net"}
    assert not [note for note in notes if "poolings" in note]
    figure = found["poolings-net-far"]
    assert set(legend(figure)) == {"mean", "cls", "final", "output"}
    cases_of = {case["id"].removeprefix("net-far-"): case for case in record["cases"]}
    for label, own in (("mean", ""), ("cls", ".cls")):
        line = lines(figure)[label]
        best = [cases_of[f"L0{layer}-act{own}"] for layer in range(1, 7)]
        assert line.get_ydata() == pytest.approx([100 * case["accuracy"] for case in best])
        for layer, case in enumerate(best, start=1):
            assert bands(figure)[line.get_color()][layer] == pytest.approx([100 * end for end in case["ci95"]])
    # The other figures show the pooling of the protocol.
    assert list(lines(found["depth-far"])["pretrained"].get_ydata()) == list(lines(figure)["mean"].get_ydata())


def test_a_single_layer_of_several_poolings_is_no_figure():
    record = pooled(["far"]).record
    record["cases"] = [case for case in record["cases"] if case["layer"] in (6, "output")]
    found, notes = drawn(record)
    assert "poolings-net-far" not in found
    assert "no poolings-net-far: fewer than two layers were measured" in notes


def test_contrasts_are_dots_with_paired_intervals_dataset_by_dataset():
    record = placed().record
    found, _ = drawn(record, datasets=["far", "clean"])
    figure = found["contrasts-net"]
    assert legend(figure) == list(CONTRASTS)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["clean", "far"]
    far = {each["contrast"]: each for each in record["sweeps"][-1]["contrasts"]}
    for container, name in zip(figure.axes[0].containers, CONTRASTS, strict=True):
        points, _, (bars,) = container
        assert points.get_xdata()[1] == pytest.approx(100 * far[name]["gain"])
        assert bars.get_segments()[1][:, 0] == pytest.approx([100 * end for end in far[name]["ci95"]])
        assert abs(points.get_ydata()[1] - 1) < 0.5
