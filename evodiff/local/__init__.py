"""Airflow, MLflow and what watches on one machine: started, asked and ended; nothing of them is imported here.

====================  ==================================================================
:mod:`.environment`   where everything lives and listens, as environment variables
:mod:`.services`      ``up`` and ``down``: the processes of the Procfile
:mod:`.monitoring`    Prometheus and Alertmanager, where they are installed
:mod:`.scheduler`     Airflow's REST API: trigger a run, ask for its state, make pools
:mod:`.demo`          three generations of digits by a real scheduler, followed
====================  ==================================================================
"""
