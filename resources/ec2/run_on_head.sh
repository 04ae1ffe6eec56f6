#!/usr/bin/env bash
# A run on the cluster's head, whoever watches: it goes on when the connection to it is lost.
#   next/run_on_head.sh start MINUTES ARGS...
#                                          begin `eo-assets run project.yaml ARGS...` on what was sent to next/; 75 if
#                                          a run is under way, whose files stay as they are.
#                                          MINUTES after its end the cluster ends, `never` keeps it.
#                                          While it goes on, the head says so to guards elsewhere.
#   run_on_head.sh follow                  print what the run prints, from its start; end as it ends.
set -euo pipefail
cd "$(dirname "$0")"

case "$1" in
start)
  cd ..
  exec 9> run.lock
  flock --nonblock 9 || exit 75
  mv next/* .
  rm -f code pid
  : > run.log
  shift
  setsid nohup ./run_on_head.sh work "$@" > work.log 2>&1 < /dev/null &
  while [ ! -s pid ] && kill -0 $! 2> /dev/null; do sleep 0.1; done
  ;;
work)
  # The lock, descriptor 9, is inherited of `start` and given back when the run ends, however it ends.
  minutes=$2
  shift 2
  set -a
  # shellcheck source=/dev/null
  . ~/.ray/eo-assets.environment
  set +a
  eo-assets run project.yaml "$@" > run.log 2>&1 9>&- &
  run=$!
  eo-assets cluster in-use project.yaml --while "$run" 9>&- &
  echo "$run" > pid
  code=0
  wait "$run" || code=$?
  echo "$code" > code
  exec 9>&-
  [ "$minutes" = never ] && exit
  sleep $((minutes * 60))
  exec 9> run.lock
  flock --timeout 5 9 || exit 0  # another run has begun meanwhile, and ends the cluster after its own end
  eo-assets cluster down project.yaml
  ;;
follow)
  tail --lines=+1 --follow --sleep-interval=0.5 --pid="$(cat pid)" run.log
  for _ in $(seq 50); do
    [ -s code ] && exit "$(cat code)"
    sleep 0.1
  done
  echo "the run was killed on the head: what is committed stays, run it again" >&2
  exit 137
  ;;
*)
  echo "run_on_head.sh: $1 is neither start nor follow" >&2
  exit 2
  ;;
esac
