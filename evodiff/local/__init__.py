"""Airflow and MLflow on one machine: started, asked and ended; nothing of either is imported here.

====================  ==================================================================
:mod:`.environment`   where everything lives and listens, as environment variables
:mod:`.services`      ``up`` and ``down``: the processes of the Procfile
:mod:`.scheduler`     Airflow's REST API: trigger a run, ask for its state, make pools
:mod:`.demo`          three generations of digits by a real scheduler, followed
====================  ==================================================================
"""
