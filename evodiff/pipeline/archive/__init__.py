"""A git and DVC working copy that keeps every closed generation: what can be rebuilt, and what was computed.

======================  =====================================================================
:mod:`.archiving`       archive what is not archived yet
:mod:`.repository`      the working copy: created, locked, mended, committed to
:mod:`.commands`        ``git`` and ``dvc``, waiting where another process holds their lock
:mod:`.staging`         the small DVC project in which new generations are committed
:mod:`.contents`        what is recorded of a run, and what its stages put out
:mod:`.layout`          where it lies
:mod:`.entries`         ``generations.yaml`` and ``dvc.lock``
:mod:`.rebuild`         what the stages of ``dvc.yaml`` run
:mod:`.garbage`         remove data that no commit names
======================  =====================================================================
"""

from evodiff.pipeline.archive.archiving import archive_dataset, archive_run
from evodiff.pipeline.archive.garbage import collect_garbage
from evodiff.pipeline.archive.repository import create_archive

__all__ = ["archive_run", "archive_dataset", "create_archive", "collect_garbage"]
