"""What Airflow needs to hear alerts and to follow rollouts.

======================  ====================================================================
:mod:`.connections`     clients of Alertmanager and router, as connections of Airflow name them
:mod:`.alerts`          ``PrometheusAlertTrigger`` for an ``AssetWatcher``, ``PrometheusAlertSensor`` for any DAG
:mod:`.rollouts`        operators that wait for a rollout, and for a person to speak on it
:mod:`.health`          a page: does the watcher of alerts poll?
======================  ====================================================================
"""
