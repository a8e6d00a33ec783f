#!/bin/bash
# Runs the Docker drills where an engine is available, and otherwise states why they were not run.
set -uo pipefail
cd "$(dirname "$0")/.."
started=0
not_run() {
    echo "ci: Docker part NOT RUN: $1"
    exit 0
}

if ! { docker info && docker compose version; } >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || not_run "no engine responds, and only root could start one"
    [ -x ../shared/docker-engine/engine-up ] || not_run "no engine responds, and there is none to start"
    timeout "${CI_ENGINE_SECONDS:-420}" ../shared/docker-engine/engine-up || not_run "the engine did not start"
    started=1
fi

timeout "${CI_DOCKER_SECONDS:-1800}" python3 tests/docker_drills.py
result=$?
if [ $started = 1 ]; then ../shared/docker-engine/engine-down; fi
[ $result = 0 ] && echo "ci: Docker part passed" || echo "ci: Docker part FAILED"
exit $result
