"""Recommend a tap of a model for a user's images, and train and export its probe: `probebench recommend`."""

from probebench.recommendation.recommendation import Recommendation, TapRow
from probebench.recommendation.recommender import recommend

__all__ = ["Recommendation", "TapRow", "recommend"]
