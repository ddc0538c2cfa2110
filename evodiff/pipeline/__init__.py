"""The steps of one generation, called by every driver, and what comes before and after them.

======================  =====================================================================
:mod:`.inputs`          dataset, feature nets and operator times, made or fetched by workers
:mod:`.prepare`         a dataset through its gate, then these inputs
:mod:`.create`          a new run: inputs published, ``experiment.json`` frozen
:mod:`.run`             an existing run, opened
:mod:`.identity`        whether what serves is of the run that is here
:mod:`.warm_start`      the front of another run, for a new one to start from
:mod:`.lease`           ``open``: which generation is worked on, and by whom
:mod:`.generation`      ``plan``, ``train``, ``evaluate``, ``select``
:mod:`.trial`           what a worker does for one trial (imports torch)
:mod:`.evolve`          the loop over generations
:mod:`.reuse`           evaluations taken over from a run over the same inputs
:mod:`.final`           champion, its long training, pictures, latency of the front
:mod:`.judge`           what a worker does for these (imports torch)
:mod:`.rivals`          whom a champion is held against, for how long; where the results are
:mod:`.contest`         such a contest, carried out
:mod:`.rival_tasks`     what a worker does for it (imports torch)
:mod:`.single`          one given genome, trained and scored
:mod:`.export`          a candidate as a diffusers folder
:mod:`.preference`      limits on objectives
:mod:`.prune`           less disk
:mod:`.audit`           is everything on record whole, linked and what its digests say?
:mod:`.audit_tables`    a run as tables of plain rows, for that
:mod:`.records`         everything on record, read without trusting it
:mod:`.replay`          every decision made once more from the evaluations
:mod:`.archive`         every closed generation in git and DVC, to be rebuilt or fetched
======================  =====================================================================
"""
