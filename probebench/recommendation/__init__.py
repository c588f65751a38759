"""Recommend a tap of a model for a user's images, and train and export its probe: `probebench recommend`."""

from probebench.recommendation.findings import AttentiveComparison, Findings, TapRow
from probebench.recommendation.recommendation import Recommendation
from probebench.recommendation.recommender import recommend

__all__ = ["AttentiveComparison", "Findings", "Recommendation", "TapRow", "recommend"]
