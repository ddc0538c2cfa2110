#!/bin/sh
# Start Prometheus in its container: prometheus.yml with the addresses filled in, of $ROUTER, $RUNS and $ALERTMANAGER.
# Where the programs and files lie may be named too, by which this is tried without a container.
set -eu
rules="${RULES:-/etc/evodiff/rules}"
data="${DATA:-/prometheus}"
sed -e "s|\$ROUTER|${ROUTER}|" -e "s|\$RUNS|${RUNS}|" -e "s|\$ALERTMANAGER|${ALERTMANAGER}|" -e "s|\$RULES|${rules}|" \
  "${TEMPLATE:-/etc/evodiff/prometheus.yml}" > "${data}/prometheus.yml"
exec "${PROMETHEUS:-/bin/prometheus}" "--config.file=${data}/prometheus.yml" "--storage.tsdb.path=${data}/data" "$@"
