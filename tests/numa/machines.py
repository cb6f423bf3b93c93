"""The machines and runs of vm_test.py.

MACHINES: name -> options of deploy/testbed/numa-vm, and runs. A run: the command ($run is `coffer run` with the model and
--json, $coffer the program), and what must come of it: nodes of the ranks, and hosts; `says`: texts on stderr; `refused`:
the exit status of a run that must end before it has loaded anything. `before`: shell commands for the guest.
Layouts are named, because the planner would leave out ranks that such small models do not need. MPI's shared window has no
huge pages: runs that must have nothing else do without it."""

MODELS = {
    "tiny": {"synth": "--arch llama --layers 2 --dim 256 --heads 4 --kv-heads 4 --vocab 1000", "run": "-n 6"},
    # Eight heads and eight layers: something to do for each of eight ranks in every layout.
    "wide": {"synth": "--arch llama --layers 8 --dim 256 --heads 8 --kv-heads 8 --ffn 1536 --vocab 1000", "run": "-n 4"},
    # 110 MB of weights, so that a small node can be too small.
    "heavy": {"synth": "--arch llama --layers 8 --dim 1024 --heads 16 --kv-heads 16 --ffn 2816 --vocab 2000 --type q8_0",
              "run": "-n 2 -c 256 --ubatch 32"},
}


def pools(nodes):
    """Huge pages in every node's pool."""
    return "\n".join(f"echo 24 >/sys/devices/system/node/node{n}/hugepages/hugepages-2048kB/nr_hugepages" for n in range(nodes))


MACHINES = {
    "short": {"options": "--nodes 2 --cpus 1 --mem 700M,500M", "runs": {
        "self": {"run": "$run --layout tensor", "nodes": [0, 1]},
    }},
    "two": {"options": "--nodes 2 --cpus 2 --mem 3G", "runs": {
        "self": {"run": "$run --layout tensor", "nodes": [0, 1]},
        "default": {"run": "mpirun -n 2 $run --layout tensor", "nodes": [0, 1], "says": ["widened"]},
        "four": {"run": "mpirun -n 4 $run --layout tensor", "nodes": [0, 1, 0, 1]},
        "one": {"run": "mpirun -n 1 --bind-to none $run --layout tensor", "nodes": [0]},
        "layers": {"run": "$run --layout layers", "nodes": [0, 1]},
        "strict": {"before": pools(2), "run": "mpirun -n 2 --bind-to numa --map-by numa $run --layout tensor --numa strict --huge --exchange messages",
                   "nodes": [0, 1], "says": ["100 % huge"]},
    }},
    "four": {"options": "--nodes 4 --cpus 1 --mem 4G --dist 12,32", "runs": {
        "self": {"run": "$run --layout tensor", "nodes": [0, 1, 2, 3]},
        "default": {"run": "mpirun -n 4 $run --layout tensor", "nodes": [0, 1, 2, 3]},
        "numa": {"run": "mpirun -n 4 --map-by numa --bind-to numa $run --layout tensor", "nodes": [0, 1, 2, 3]},
        "none": {"run": "mpirun -n 4 --bind-to none $run --layout tensor", "nodes": [0, 1, 2, 3]},
        "two_of_four": {"run": "mpirun -n 2 --bind-to none $run --layout tensor", "nodes": [0, 1]},
        "hybrid": {"run": "$run --layout hybrid", "model": "wide", "nodes": [0, 1, 2, 3]},
        "domain": {"run": "$run --layout domain --map left=1,right=0,temporal=2,prefrontal=3 --stats", "nodes": [0, 1, 2, 3],
                   "says": ["0 RIGHT_HEMI", "1 LEFT_HEMI", "2 TEMPORAL", "3 PREFRONTAL"]},
        "s824": {"run": "$run --map s824", "nodes": [0, 1, 2, 3]},
        "s824_mpirun": {"run": "mpirun -n 4 --bind-to none $run --map s824", "nodes": [0, 1, 2, 3]},
        "absent": {"run": "$run --map left=1,right=0,temporal=2,prefrontal=7", "refused": 2, "says": ["no NUMA node 7 here"]},
        "strict": {"run": "$run --layout tensor --numa strict", "nodes": [0, 1, 2, 3]},
        "bound": {"run": "numactl --cpunodebind=2 --membind=2 $run --layout tensor", "nodes": [2]},
        "huge": {"before": pools(4), "run": "$run --layout tensor --huge --exchange messages", "nodes": [0, 1, 2, 3], "says": ["100 % huge"]},
    }},
    "eight": {"options": "--nodes 8 --cpus 1 --mem 4G --dist 12,32", "runs": {
        "tensor": {"run": "$run --layout tensor", "model": "wide", "nodes": list(range(8))},
        "layers": {"run": "$run --layout layers", "model": "wide", "nodes": list(range(8))},
        "hybrid": {"run": "$run --layout hybrid --stages 4", "model": "wide", "nodes": list(range(8))},
        "domain": {"run": "$run --layout domain", "model": "wide", "nodes": list(range(8))},
    }},
    "memory_only": {"options": "--nodes 3 --cpus 2,2,0 --mem 1G,1G,1G", "runs": {
        "self": {"run": "$run --layout tensor", "nodes": [0, 1]},
        "map": {"run": "$run --map left=0,right=1,temporal=2,prefrontal=0 --stats", "nodes": [0, 1, 2], "says": ["2 TEMPORAL"]},
        "map_mpirun": {"run": "mpirun -n 3 --bind-to none $run --map left=0,right=1,temporal=2,prefrontal=0", "nodes": [0, 1, 2]},
    }},
    "unequal": {"options": "--nodes 4 --cpus 2,1,1,2 --mem 1G,400M,300M,700M", "runs": {
        "tensor": {"run": "$run --layout tensor", "model": "heavy", "nodes": [0, 1, 2, 3]},
        "layers": {"run": "$run --layout layers", "model": "heavy", "nodes": [0, 1, 2, 3]},
        "hybrid": {"run": "$run --layout hybrid", "model": "heavy", "nodes": [0, 1, 2, 3]},
    }},
    # Half of the model is too much for node 1: node 0 takes more. What fits nowhere is refused before anything is loaded.
    "small_node": {"options": "--nodes 2 --cpus 1 --mem 1G,120M", "runs": {
        "tensor": {"run": "$run --layout tensor", "model": "heavy", "nodes": [0, 1]},
        "layers": {"run": "$run --layout layers", "model": "heavy", "nodes": [0, 1]},
        "huge": {"run": "$run --layout tensor --huge", "model": "heavy", "nodes": [0, 1]},
        "too_much": {"run": "$run --layout tensor -c 65536", "model": "heavy", "refused": 1, "says": ["does not fit", "iB short"]},
        "too_much_layers": {"run": "$run -c 65536 --layout layers", "model": "heavy", "refused": 1, "says": ["does not fit", "iB short"]},
    }},
    # Node 1 has next to nothing. What a kernel leaves of 48 MiB differs by 13 MB from boot to boot, so that there may be no room even
    # for buffers, and then it is refused before anything is loaded; of 80 there is.
    "sliver": {"options": "--nodes 2 --cpus 1 --mem 1G,48M", "runs": {
        "tensor": {"run": "$run --layout tensor", "model": "heavy", "nodes": [0, 1], "may_refuse": "does not fit: rank 1"},
        "layers": {"run": "$run --layout layers", "model": "heavy", "nodes": [0, 1], "may_refuse": "does not fit: rank 1"},
    }},
    "scarce": {"options": "--nodes 2 --cpus 1 --mem 1G,80M", "runs": {
        "tensor": {"run": "$run --layout tensor", "model": "heavy", "nodes": [0, 1]},
        "layers": {"run": "$run --layout layers", "model": "heavy", "nodes": [0, 1]},
    }},
    # Two hosts of two nodes each: networks, processes and cpusets of their own.
    "cluster": {"options": "--nodes 4 --cpus 1 --mem 3G", "runs": {
        "hybrid": {"before": "hosts up 2 --slots 2 --numa 2 --delay 0.1ms --rate 1gbit",
                   "run": "hosts run mpirun -n 4 $run --layout hybrid", "nodes": [0, 1, 2, 3], "hosts": ["h1", "h1", "h2", "h2"]},
        "tensor": {"run": "hosts run mpirun -n 4 --map-by node $run --layout tensor", "nodes": [0, 2, 1, 3],
                   "hosts": ["h1", "h2", "h1", "h2"]},
    }},
}
