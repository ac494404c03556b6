#!/bin/sh
# Stands in for the daemon in the test kit's own tests: shows its arguments and its configuration, and ends as told.
# SAY=ready: becomes ready, and ends on SIGTERM. Anything else: ends at once.
echo "arguments: $*" >&2
cat "$3" >&2
if [ "$SAY" = ready ]; then
    trap 'echo terminated >&2; exit 7' TERM
    echo "INFO $SAY listening address=127.0.0.1:1" >&2
    while :; do sleep 0.02; done
fi
echo "error: $SAY" >&2
exit 1
