"""What is measured while evodiff serves and searches, and who is told when it degrades.

====================  ==================================================================
:mod:`.exporter`      metrics of searches and outbox, computed from the folders of runs
:mod:`.alerts`        which alerts fire, asked of an Alertmanager
:mod:`.watch`         which of them are new: what the watcher of alerts remembers
:mod:`.health`        whether the watcher of alerts works, in words
====================  ==================================================================

Those of router, workers and release are in :mod:`evodiff.deployment.metrics`, beside what they count.
"""
