"""Which tap of a model to use for one's own images, with the trained probe: the command `probebench recommend`."""

from probebench.recommendation.recommend import recommend
from probebench.recommendation.recommendation import Recommendation, TapRow

__all__ = ["Recommendation", "TapRow", "recommend"]
