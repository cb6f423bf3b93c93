#!/bin/bash
# coffer run on machines with two, three and four NUMA nodes: boots them with the test bed's numa-vm (QEMU, no KVM), runs
# coffer there in every way that a rank can get its node, and compares with one rank on this machine: the same ids and
# logits, each rank on the node that was expected, every page local. Needs root, QEMU and about five minutes.
#
#   apt-get install qemu-system-x86 qemu-system-common busybox-static cpio kmod linux-image-cloud-amd64
#   tests/numa/run_in_vm.sh PATH-OF-numa-vm [COFFER]
#
# As a ctest (vm.run) it runs only with COFFER_VM_TESTS=1; status 77: skipped.
set -u
here=$(dirname "$(realpath "$0")")
skip() { echo "skipped: $*"; exit 77; }
if [ "${1:-}" = --ctest ]; then
    shift
    [ "${COFFER_VM_TESTS:-0}" = 1 ] || skip "takes minutes: set COFFER_VM_TESTS=1"
fi
vm=${1:-$here/../../../shared/testbed/numa-vm}
coffer=$(realpath "${2:-build/coffer}")
[ -x "$vm" ] || skip "no test bed at $vm"
[ "$(id -u)" = 0 ] || skip "not root"
for tool in qemu-system-x86_64 busybox cpio modprobe; do command -v $tool >/dev/null || skip "no $tool"; done
[ -n "$(ls /boot/vmlinuz-*-amd64 2>/dev/null)" ] || skip "no kernel (linux-image-cloud-amd64)"

dir=$(mktemp -d /tmp/coffer-vm.XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$coffer" synth --arch llama --layers 2 --dim 256 --heads 4 --kv-heads 4 --vocab 1000 --seed 1 -o "$dir/model.gguf" 2>/dev/null || exit 1
run="$coffer run -m $dir/model.gguf --prompt-ids 1,5,9,301,77 -n 6 --temp 0 --ignore-eos --json"
$run >"$dir/reference" 2>/dev/null || { echo "FAILED: the reference"; exit 1; }
failed=0

# Inside: try NAME COMMAND... leaves NAME.out, NAME.err, NAME.status.
cat >"$dir/lib" <<'LIB'
export COFFER_ISA=scalar OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
try() { local name=$1; shift; "$@" >$dir/$name.out 2>$dir/$name.err; echo $? >$dir/$name.status; }
LIB

# boot NAME OPTIONS-OF-numa-vm...; the script comes on stdin
boot() {
    local name=$1
    shift
    { echo "dir=$dir run='$run' coffer=$coffer; . $dir/lib"; cat; } >"$dir/script"
    echo "== $name"
    "$vm" --rw "$dir" --timeout 400 "$@" -- bash "$dir/script" || { echo "FAILED  $name: status $?"; failed=1; }
}

# expect NAME NODES [TEXT ON STDERR]: NODES is the list of the ranks' nodes, or "error N" for an exit status
expect() {
    python3 - "$dir" "$@" <<'PY' || failed=1
import json, sys
dir, name, nodes, *text = sys.argv[1:]
read = lambda what: open(f"{dir}/{name}.{what}", errors="replace").read()
wrong = []
try:
    status, err = int(read("status")), read("err")
    if nodes.startswith("error"):
        if status != int(nodes.split()[1]): wrong.append(f"status {status}")
    elif status:
        wrong.append(f"status {status}")
    else:
        want, got = json.load(open(dir + "/reference")), json.loads(read("out"))
        for key in ("ids", "logits_xxh64"):
            if got[key] != want[key]: wrong.append(f"{key} {got[key]}, not {want[key]}")
        ranks = got["plan"]["ranks"]
        if [r["node"] for r in ranks] != [int(n) for n in nodes.split(",")]: wrong.append(f"nodes {[r['node'] for r in ranks]}, not {nodes}")
        if min(r["local_percent"] for r in ranks) < 100: wrong.append(f"local {[r['local_percent'] for r in ranks]}")
    for t in text:
        if t not in err: wrong.append(f"stderr lacks '{t}'")
    if wrong: wrong.append(err[-600:])
except Exception as problem:
    wrong.append(repr(problem))
print(("FAILED  " if wrong else "ok      ") + name, *wrong, sep="\n        ") if wrong else print("ok      " + name)
sys.exit(bool(wrong))
PY
}

boot "four nodes" --nodes 4 --cpus 1 --mem 4G <<'VM'
try self $run
try default mpirun -n 4 $run
try numa mpirun -n 4 --map-by numa --bind-to numa $run
try none mpirun -n 4 --bind-to none $run
try two mpirun -n 2 --bind-to none $run
try domain $run --layout domain --map left=1,right=0,temporal=2,prefrontal=3 --stats
try s824 $run --map s824
try s824mpirun mpirun -n 4 --bind-to none $run --map s824
try absent $run --map left=1,right=0,temporal=2,prefrontal=7
try strict $run --numa strict
try bound numactl --cpunodebind=2 --membind=2 $run
for n in 0 1 2 3; do echo 24 >/sys/devices/system/node/node$n/hugepages/hugepages-2048kB/nr_hugepages; done
try huge $run --huge
VM
expect self 0,1,2,3
expect default 0,1,2,3
expect numa 0,1,2,3
expect none 0,1,2,3
expect two 0,1
expect domain 0,1,2,3 "0 RIGHT_HEMI" "1 LEFT_HEMI" "2 TEMPORAL" "3 PREFRONTAL"
expect s824 0,1,2,3
expect s824mpirun 0,1,2,3
expect absent "error 2" "no NUMA node 7 here"
expect strict 0,1,2,3
expect bound 2
expect huge 0,1,2,3 "100 % huge"

boot "two nodes" --nodes 2 --cpus 2 --mem 3G <<'VM'
try self2 $run
try default2 mpirun -n 2 $run
try four2 mpirun -n 4 $run
try one2 mpirun -n 1 --bind-to none $run
try layers2 $run --layout layers
for n in 0 1; do echo 24 >/sys/devices/system/node/node$n/hugepages/hugepages-2048kB/nr_hugepages; done
try strict2 mpirun -n 2 --bind-to numa --map-by numa $run --numa strict --huge
VM
expect self2 0,1
expect default2 0,1 widened
expect four2 0,1,0,1
expect one2 0
expect layers2 0,1
expect strict2 0,1 "100 % huge"

boot "a node of memory only" --nodes 3 --cpus 2,2,0 --mem 1G,1G,1G <<'VM'
try self3 $run
try memory3 $run --map left=0,right=1,temporal=2,prefrontal=0 --stats
try mpirun3 mpirun -n 3 --bind-to none $run --map left=0,right=1,temporal=2,prefrontal=0
VM
expect self3 0,1
expect memory3 0,1,2 "2 TEMPORAL"
expect mpirun3 0,1,2
[ $failed -eq 0 ] && echo "all as expected"
exit $failed
