#!/bin/bash
# run_ranks.sh PROGRAM RANKS SEEN SCENARIO [EXPECTED TEXT]
# Runs a scenario of transport_ranks. SEEN 0: it must succeed. SEEN k: it must fail, k ranks having seen the text.
# Nothing of it may be left running afterwards.
set -u
program=$1 ranks=$2 seen=$3
shift 3
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mark=transport_ranks_$$_$RANDOM
out=$(MARK=$mark timeout -k 5 50 mpirun --oversubscribe --allow-run-as-root --bind-to none --mca odls_base_sigkill_timeout 0 \
    -x MARK -n "$ranks" "$program" "$@" 2>&1)
status=$?
echo "$out"
left=$(grep -lsz "^MARK=$mark\$" /proc/[0-9]*/environ 2>/dev/null | grep -v "/proc/$$/")
if [ -n "$left" ]; then sleep 1; left=$(grep -lsz "^MARK=$mark\$" /proc/[0-9]*/environ 2>/dev/null); fi
[ -z "$left" ] || { echo "left running: $left"; exit 1; }
if [ "$seen" = 0 ]; then exit $status; fi
[ $status -ne 0 ] && [ $status -ne 124 ] || { echo "exit status $status"; exit 1; }
n=$(grep -c 'saw it$' <<<"$out")
[ "$n" -ge "$seen" ] || { echo "$n of $seen ranks saw it"; exit 1; }
