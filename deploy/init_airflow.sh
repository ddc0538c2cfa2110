#!/bin/sh
# Bring Airflow's database up to date, make its administrator and its pools. Doing it again changes nothing but the
# number of slots.
set -eu

airflow db migrate
airflow users create --role Admin --username admin --password "$AIRFLOW_ADMIN_PASSWORD" \
  --firstname evodiff --lastname admin --email admin@localhost

cat > /tmp/pools.json <<POOLS
{
  "training": {"slots": $AIRFLOW__CORE__PARALLELISM, "description": "training", "include_deferred": false},
  "mps": {"slots": $AIRFLOW__CORE__PARALLELISM, "description": "judging", "include_deferred": false},
  "dvc": {"slots": 1, "description": "archive, then registry: beside the next generation, one at a time", "include_deferred": false}
}
POOLS
airflow pools import /tmp/pools.json
