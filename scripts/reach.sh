#!/usr/bin/env bash
# Says where this machine can get things from: `upstream` (the image registry of the base image, and the projects' own
# releases) or `packages` (package registries only). LIAN_SOURCE overrides the look.
set -euo pipefail

if [ -n "${LIAN_SOURCE:-}" ]; then
	echo "$LIAN_SOURCE"
	exit 0
fi
# A name that does not resolve answers at once; one that does is asked for a connection, two seconds at most.
reaches() { getent hosts "$1" >/dev/null && timeout 2 bash -c ": </dev/tcp/$1/443" 2>/dev/null; }
for host in docker.io github.com; do
	reaches "$host" || { echo packages; exit 0; }
done
echo upstream
