"""The kinds of forests, and the usual file of each."""

from collections.abc import Mapping
from typing import Final

FILES: Final[Mapping[str, str]] = {
    "xgboost": "xgboost.model",
    "xgboost_json": "xgboost.json",
    "xgboost_ubj": "xgboost.ubj",
    "lightgbm": "model.txt",
    "treelite_checkpoint": "checkpoint.tl",
}
"""By the parameter `model_type`; "xgboost" is the binary format that XGBoost has left."""

DEFAULT_KIND: Final = "xgboost"
