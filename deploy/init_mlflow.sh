#!/bin/sh
# Bring MLflow's database up to date and make the buckets for its artifacts and for the archive.
set -eu

mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
python deploy/buckets.py "$ARTIFACTS_BUCKET" "$ARCHIVE_BUCKET"
