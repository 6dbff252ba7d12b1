"""The scores by name, and what tables, figures and model cards call them."""

SCORES = {
    "fraction_oracle": "fraction oracle",
    "single_trial_correlation": "correlation with single trials",
    "correlation_to_average": "correlation with the average over repeats",
    "oracle_correlation": "oracle correlation (of the recording itself)",
    "fev": "explainable variance (FEV, of the recording itself)",
    "feve": "explainable variance explained (FEVE)",
    "ccnorm": "correlation with the average, noise corrected (CCnorm)",
    "deviance_explained": "Poisson deviance explained",
    "true_rate_correlation": "correlation with the true rate",
}
"""Name of a column to its label. Only a simulation knows true rates."""

RECORDING_SCORES = ("oracle_correlation", "fev")
"""What the recording can give at most: not a result of a model."""

MODEL_SCORES = tuple(score for score in SCORES if score not in (*RECORDING_SCORES, "ccnorm"))
"""What a model reaches on test images; the columns of a learning curve."""

TABLE_SCORES = tuple(
    score for score in SCORES if score not in ("deviance_explained", "true_rate_correlation")
)
"""What recorded test responses alone give; the scores of a ``ScoreTable``."""
