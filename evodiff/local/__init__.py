"""Airflow, MLflow and what watches on one machine: started, asked and ended; nothing of them is imported here.

====================  ==================================================================
:mod:`.environment`   where everything lives and listens, as environment variables
:mod:`.services`      ``up`` and ``down``: the processes of the Procfile
:mod:`.monitoring`    Prometheus and Alertmanager, where they are installed
:mod:`.scheduler`     Airflow's REST API: trigger a run, ask for its state, make pools
:mod:`.demo`          three generations of digits by a real scheduler, followed
:mod:`.stack`         the processes of the Procfile one by one, on free ports
:mod:`.impatience`    Prometheus' rules with every length of time divided by one number
:mod:`.load`          clients of the router, whose every request is counted
:mod:`.neighbours`    what makes a service slow without a change to it
:mod:`.story`         the whole loop by real processes: ``make story``; its means are in :mod:`.stage`
:mod:`.story_models`  the models of it that no scheduler evolves
:mod:`.told`          what it came to, and what speaks against it
:mod:`.chronicle`     its time line
====================  ==================================================================
"""
