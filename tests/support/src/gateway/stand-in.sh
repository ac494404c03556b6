#!/bin/sh
# Takes the place of the daemon in the tests of the testkit: prints its arguments and its configuration to standard error.
# If SAY=ready, becomes ready and ends on SIGTERM; otherwise ends at once.
echo "arguments: $*" >&2
cat "$3" >&2
if [ "$SAY" = ready ]; then
    trap 'echo terminated >&2; exit 7' TERM
    echo "INFO $SAY listening address=127.0.0.1:1" >&2
    while :; do sleep 0.02; done
fi
echo "error: $SAY" >&2
exit 1
