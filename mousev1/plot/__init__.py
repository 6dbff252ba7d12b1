"""Figures of models and of in-silico results (needs the extra: ``pip install 'mousev1[plot]'``).

Every function returns a matplotlib ``Figure`` that belongs to no window; ``save`` writes it. Pictures of
images are as the animal would see them, axes in degrees of visual angle from the centre of the frame. What lies
outside of the training images (``mousev1.insilico.extrapolation``) is drawn in red or hollow.
"""

from __future__ import annotations

from mousev1.plot.figure import save as save
from mousev1.plot.images import image_sheet as image_sheet
from mousev1.plot.images import traces as traces
from mousev1.plot.learning_curves import learning_curve as learning_curve
from mousev1.plot.maps import fields_on_monitor as fields_on_monitor
from mousev1.plot.maps import receptive_field_sheet as receptive_field_sheet
from mousev1.plot.maps import retinotopic_map as retinotopic_map
from mousev1.plot.scores import score_distributions as score_distributions
from mousev1.plot.scores import score_summary as score_summary
from mousev1.plot.tuning import population_tuning as population_tuning
from mousev1.plot.tuning import tuning_panels as tuning_panels
