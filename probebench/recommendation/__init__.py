"""Which tap of a model to use for one's own images, with the trained probe: the command `probebench recommend`."""

from probebench.recommendation.recommendation import Recommendation, TapRow
from probebench.recommendation.recommender import recommend

__all__ = ["Recommendation", "TapRow", "recommend"]
