"""A small run record for leaderboards, with numbers that can be followed by eye."""

from __future__ import annotations

ACCURACY = {
    ("net", "easy"): {("embed", "embed"): 0.5, (1, "act"): 0.9, (1, "rc2"): 0.8, (2, "act"): 0.9, (2, "rc2"): 0.7},
    ("net", "hard"): {("embed", "embed"): 0.2, (1, "act"): 0.6, (1, "rc2"): 0.3, (2, "act"): 0.4, (2, "rc2"): 0.1},
    ("net_random", "easy"): {
        ("embed", "embed"): 0.4,
        (1, "act"): 0.3,
        (1, "rc2"): 0.2,
        (2, "act"): 0.25,
        (2, "rc2"): 0.1,
    },
}
OUTPUT = {("net", "easy"): 0.75, ("net", "hard"): 0.15, ("net_random", "easy"): 0.05}
SHIFT = {"easy": "none", "hard": "strong"}


def references(output):
    """What the network returns, and the mean over all tokens, which is a little less accurate."""
    return {("final", "final"): output - 0.01, ("output", "output"): output}


def record():
    sweeps, cases = [], []
    for (model, dataset), taps in ACCURACY.items():
        control = "net" if model == "net_random" else None
        sweeps.append({"model": model, "dataset": dataset, "depth": 2, "control_of": control, "shift": SHIFT[dataset]})
        for (layer, site), accuracy in (taps | references(OUTPUT[model, dataset])).items():
            cases.append(
                {"id": f"{model}-{dataset}-{layer}-{site}", "model": model, "dataset": dataset, "layer": layer}
                | {"site": site, "protocol": "paper@1"}
                | {"accuracy": accuracy, "ci95": [accuracy - 0.05, accuracy + 0.05], "verdict": "same"}
                | {"baseline_accuracy": accuracy, "lost": 0, "gained": 0, "width": 8, "n_test": 100}
            )
    return {"sweeps": sweeps, "cases": cases, "images_per_second": 1234.0}


def full():
    """The same with what newer records have: metrics, a score at equal width, distances, and a selection."""
    some = record()
    for case in some["cases"]:
        accuracy, wide = case["accuracy"], case["site"] == "act"
        near = [accuracy - 0.02, accuracy + 0.02]
        case |= {
            "draws": 1,
            "width": 32 if wide else 8,
            "held_out_accuracy": 0.9 if (case["layer"], case["site"]) == (2, "act") else accuracy / 2,
            "metrics": {
                "top5": {"value": accuracy + 0.03, "ci95": near},
                "mean_per_class": {"value": accuracy - 0.01, "ci95": near},
                "nll": {"value": 1.234, "ci95": [1.2, 1.3]},
                "ece": {"value": 0.056, "ci95": [0.05, 0.06]},
            },
            "width_matched": {"width": 8, "accuracy": accuracy - 0.02, "ci95": near} if wide else None,
        }
    return selected(some)


def selected(some):
    """With a selection of layer 2's act in all sweeps: layer 1's act is tied with it, and better on test."""
    for sweep in some["sweeps"]:
        sweep["selection"] = {
            "tap": "L02-act",
            "by": "held_out",
            "score": 0.9,
            "best": "embed" if sweep["control_of"] else "L01-act",
            "level": 0.05,
            "accuracy": ACCURACY[sweep["model"], sweep["dataset"]][2, "act"],
            "optimism": 0.01,
            "tied": ["L01-act"],
            "worse": 5,
            "better": 0,
        }
    return some
