#!/bin/bash
# The memory room on machines with two and four NUMA nodes: boots them with deploy/testbed/numa-vm (QEMU, no KVM), runs the
# unit tests of the room there, then seats ranks with and without mpirun. Not part of CI: it needs root, QEMU and minutes.
#
#   tests/numa/in_vm.sh [BUILD-DIRECTORY]       # BUILD/tests has test_arena ..., and numa_where
set -u
vm=$(dirname "$(realpath "$0")")/../../deploy/testbed/numa-vm
build=$(realpath "${1:-build}")/tests
reason=$("$vm" check) || { echo "skipped: $reason"; exit 77; }
tests="test_seat test_topology test_arena test_team"
failed=0

# check NAME EXPECTED-LINES ARGUMENTS-OF-numa-vm...: every line must appear in the output, and the status must be 0.
check() {
    local name=$1 expected=$2 output status line
    shift 2
    output=$("$vm" --timeout 300 "$@" 2>&1)
    status=$?
    [ $status -eq 0 ] || { echo "FAILED  $name: status $status"; failed=1; }
    while IFS= read -r line; do
        [ -z "$line" ] || grep -qF -- "$line" <<<"$output" || { echo "FAILED  $name: no line '$line'"; failed=1; }
    done <<<"$expected"
    echo "== $name"
    grep -E '^(node|rank|ERROR|this)|threads,|FAILED|local' <<<"$output"
}

run="for t in $tests; do CF_TEST_VERBOSE=1 $build/\$t || exit 1; done"
mpirun="mpirun --allow-run-as-root"
where="$build/numa_where"

check "unit tests, 2 nodes" "" --nodes 2 --cpus 2 --mem 4G -- bash -c "$run"
check "unit tests, 4 nodes" "" --nodes 4 --cpus 1 --mem 6G -- bash -c "$run"
check "unit tests, third node memory only" "this machine: 0:0,1 1:2,3 2>" \
    --nodes 3 --cpus 2,2,0 --mem 2G,2G,2G -- bash -c "$run"
check "hugetlb pool" "% huge (hugetlb)" --nodes 2 --mem 4G -- bash -c \
    "for n in 0 1; do echo 40 >/sys/devices/system/node/node\$n/hugepages/hugepages-2048kB/nr_hugepages; done
     CF_TEST_VERBOSE=1 $build/test_arena"
check "hugetlb pages of 1 GiB, on node 1" "node 1: 4096 pages, 100.0 % local, 100 % huge (hugetlb)" --nodes 2 --mem 6G --cpu max \
    --append "default_hugepagesz=1G hugepagesz=1G hugepages=1:1" -- bash -c \
    "CF_TEST_VERBOSE=1 $build/test_arena" # set aside while booting: later there may be no whole GiB
check "a pool on one node only" "node 1: 4096 pages, 100.0 % local" --nodes 2 --mem 4G -- bash -c \
    "echo 40 >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
     CF_TEST_VERBOSE=1 $build/test_arena"
check "seats" "$(cat <<'LINES'
first: rank 1 of 2: node 1 of 2, cores 2,3 (widened)
second: rank 1 of 2: node 1 of 2, cores 2,3
third: rank 2 of 4: node 1 of 2, cores 2
fourth: rank 0 of 2: node 1 of 2, cores 2,3 (widened)
fifth: rank 1 of 2: node 1 of 2, cores 2,3,
sixth: rank 0 of 1: node 1 of 1, cores 2,3
bound: rank 1 of 4: node 1 of 2, cores 2,
bound: rank 3 of 4: node 1 of 2, cores 3,
LINES
)" --nodes 2 --cpus 2 --mem 4G -- bash -ec "
    $mpirun -n 2 $where | sed 's/^/first: /'
    $mpirun -n 2 --bind-to none $where | sed 's/^/second: /'
    $mpirun -n 4 --bind-to none $where | sed 's/^/third: /'
    $mpirun -n 2 $where 1 0 | sed 's/^/fourth: /'
    $mpirun -n 2 --map-by numa $where | sed 's/^/fifth: /'
    numactl --cpunodebind=1 --membind=1 $where | sed 's/^/sixth: /'
    $mpirun -n 4 --bind-to numa $where | sed 's/^/bound: /'"
check "memory-only node by name" "rank 1 of 2: node 2 of 3, cores" \
    --nodes 3 --cpus 2,2,0 --mem 2G,1G,1G -- bash -c "$mpirun -n 2 --bind-to none $where 0 2"
[ $failed -eq 0 ] && echo "all as expected"
exit $failed
