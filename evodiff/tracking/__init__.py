"""MLflow shows what the ledger holds: runs for generations and candidates, and the registry of models.

Everything here looks at what the ledger has and MLflow has not, and does that; so it may be called again, or by two
processes at once. Importing it imports no MLflow.

=====================  =================================================================
:mod:`.delivery`       ``track_run``, ``register_front``
:mod:`.registry`       registered versions, ``project_aliases``
:mod:`.generations`    a closed generation as runs of MLflow
:mod:`.runs`           runs that are created once and filled whole
:mod:`.records`        what those runs hold, from the ledger
:mod:`.innovations`    first appearances on the front
:mod:`.artifacts`      genomes, diagrams, grids of samples
:mod:`.model_folder`   a candidate as a model of MLflow
:mod:`.served_model`   the code inside such a model
:mod:`.outbox`         what waits while MLflow cannot be reached
:mod:`.retention`      ``expire_artifacts``
:mod:`.gates`          what the gates of the data found
:mod:`.pages`          addresses of MLflow's pages
:mod:`.reading`        an experiment as the comparison shows it
:mod:`.server`         the connection and its errors
=====================  =================================================================
"""

from evodiff.tracking.delivery import TrackingResult, register_front, track_run
from evodiff.tracking.gates import track_gate
from evodiff.tracking.registry import RegisteredCandidate, project_aliases
from evodiff.tracking.retention import Expired, expire_artifacts
from evodiff.tracking.server import TrackingError, TrackingUnreachable

__all__ = [
    "track_run",
    "TrackingResult",
    "register_front",
    "RegisteredCandidate",
    "project_aliases",
    "track_gate",
    "expire_artifacts",
    "Expired",
    "TrackingError",
    "TrackingUnreachable",
]
