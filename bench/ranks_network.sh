#!/usr/bin/env bash
# Two ranks on two simulated hosts, and a network that fails: network namespaces joined by a veth pair,
# launched by Open MPI's mpirun, whose agent enters the other namespace instead of calling ssh.
#
# Needs root, Open MPI and `ip`. Usage: bench/ranks_network.sh TRAIN DIR, with a `train` that was built with
# the feature `mpi`, and a directory whose `data` folder holds a prepared tiny_tales.
set -euo pipefail
train=$(realpath "$1")
cd "$2"

first=ranks-a second=ranks-b
kill_all() {
    for host in "$first" "$second"; do
        ip netns pids "$host" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    done
}
clean_up() {
    kill_all
    ip netns del "$first" 2>/dev/null || true
    ip netns del "$second" 2>/dev/null || true
}
trap clean_up EXIT
clean_up
ip netns add "$first"
ip netns add "$second"
ip link add veth-a netns "$first" type veth peer name veth-b netns "$second"
for side in a:1 b:2; do
    inside="ip -n ranks-${side%:*}"
    $inside addr add "10.77.0.${side#*:}/24" dev "veth-${side%:*}"
    $inside link set "veth-${side%:*}" up
    $inside link set lo up
done
# mpirun calls it as ssh: the host, then a command. Each host has a name of its own.
cat >agent <<'AGENT'
#!/usr/bin/env bash
shift
exec ip netns exec ranks-b unshare --uts bash -c "hostname ranks-b; $*"
AGENT
chmod +x agent
printf '10.77.0.1 slots=1\n10.77.0.2 slots=1\n' >hosts

launch() {
    ip netns exec "$first" unshare --uts bash -c 'hostname ranks-a; exec "$@"' bash \
        mpirun --allow-run-as-root -n 2 --hostfile hosts --bind-to none --mca plm_rsh_agent "$PWD/agent" \
        --mca btl self,tcp --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
        "$train" --dataset-name tiny_tales --out-dir out-network --n-layer 2 --n-head 2 --n-embd 64 \
        --block-size 64 --batch-size 8 --max-iters "$1" --lr-decay-iters 2000 --eval-interval 50 --eval-iters 2 \
        --log-interval 50 --sample-at-eval false --threads 1 --rank-timeout 5 "${@:2}"
}

echo '$ the link is cut after the first checkpoint'
rm -rf out-network
launch 1000000 >first.log 2>&1 &
pid=$!
until grep -q '^saved' first.log; do sleep 0.1; done
ip -n "$first" link set veth-a down
begin=$SECONDS
until grep -q 'job has been aborted' first.log; do sleep 0.1; done
grep -v '^iter' first.log
echo "\$ the run has ended after $((SECONDS - begin)) s"
# mpirun itself waits for the other host until its connection times out.
kill_all
wait "$pid" || true

ip -n "$first" link set veth-a up
sleep 3
echo '$ the link is up again, and the run is resumed'
step=$(readlink out-network/last | grep -o '[0-9]*$')
launch "$((10#$step + 100))" --init-from resume 2>&1 | grep -v '^iter'
