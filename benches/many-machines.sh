#!/usr/bin/env bash
# Two servers with one address behind a router that spreads its clients (ECMP), before one store: the figures of
# docs/many-machines.md. Needs root, iproute2, procps, curl and s3s-fs. It makes network namespaces of its own and
# removes them again.
#
#   benches/many-machines.sh [TUFFET]     a tuffet with the feature object-store
set -uo pipefail
tuffet=$(realpath "${1:-target/release/tuffet}")
work=$(mktemp -d)
vip=10.9.9.9
client=tuffet-client router=tuffet-router
declare -A pid=()

cleanup() {
    for each in "${pid[@]}"; do kill -9 "$each" 2>/dev/null; done
    for ns in $client $router tuffet-1 tuffet-2; do ip netns del $ns 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
at() { ip netns exec "$@"; }

# A link between two namespaces: the name of each end is that of the other namespace.
link() {
    ip link add "$2" netns "$1" type veth peer name "$1" netns "$2"
    at "$1" ip address add "$3/24" dev "$2" && at "$2" ip address add "$4/24" dev "$1"
    at "$1" ip link set "$2" up && at "$2" ip link set "$1" up
}

network() {
    for ns in $client $router tuffet-1 tuffet-2; do ip netns add $ns && at $ns ip link set lo up; done
    link $client $router 10.9.0.2 10.9.0.1
    at $client ip route add default via 10.9.0.1
    for n in $(seq 20 59); do at $client ip address add 10.9.0.$n/24 dev $router; done
    at $router sysctl -q net.ipv4.ip_forward=1
    for n in 1 2; do
        link $router tuffet-$n 10.9.$n.1 10.9.$n.2
        at tuffet-$n ip address add $vip/32 dev lo
        at tuffet-$n ip route add default via 10.9.$n.1
    done
}

# How the router spreads clients: 0 by the addresses, 1 by the addresses and the ports. Then the servers to use.
spread() {
    at $router sysctl -q net.ipv4.fib_multipath_hash_policy="$1"
    local hops=()
    for n in "${@:2}"; do hops+=(nexthop via 10.9."$n".2); done
    at $router ip route replace $vip "${hops[@]}"
}

# The server with this number and these options, on a core of its own if there are enough.
serve() {
    local n=$1
    shift
    export AWS_ENDPOINT_URL=http://10.9.$n.1:8014 AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_REGION=us-east-1
    exec ip netns exec tuffet-$n taskset -c $(((n - 1) % $(nproc))) \
        "$tuffet" serve s3://boot --listen $vip:69 --quiet "$@" >"$work/server-$n" 2>&1 &
    pid[$n]=$!
    disown
    until grep -qs listening "$work/server-$n"; do sleep 0.05; done
}
stop() {
    for n in "$@"; do
        kill -9 ${pid[$n]} 2>/dev/null
        while kill -0 ${pid[$n]} 2>/dev/null; do sleep 0.01; done
        unset "pid[$n]"
    done
}

# The client with this number. Prints its outcome and its seconds.
get() {
    local begin=$EPOCHREALTIME code
    at $client curl -sS --interface 10.9.0.$((20 + $1 % 40)) --tftp-blksize 1428 --max-time 60 \
        -o "$work/out-$1" "tftp://$vip/$2" 2>"$work/said-$1"
    code=$?
    [ $code = 0 ] && ! cmp -s "$work/out-$1" "$work/store/boot/$2" && code=wrong
    rm -f "$work/out-$1"
    awk -v code="$code" -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%s %.1f\n", code, b - a }' >"$work/result-$1"
}
# So many clients at once.
clients() {
    rm -f "$work"/result-*
    local gets=()
    for n in $(seq "$1"); do get "$n" "$2" & gets+=($!); done
    wait "${gets[@]}"
}
results() {
    cat "$work"/result-* | sort -n | awk '
        { count[$1]++; if (!($1 in low) || $2 < low[$1]) low[$1] = $2; if ($2 > high[$1]) high[$1] = $2 }
        END { for (code in count) printf "  %3d clients: curl says %s, after %.1f to %.1f s\n", count[code], code, low[code], high[code] }'
}
# The processor time of a server, in hundredths of a second.
busy() { awk '{ print $14 + $15 }' /proc/${pid[$1]}/stat; }
received() { at tuffet-"$1" cat /sys/class/net/$router/statistics/rx_bytes; }

mkdir -p "$work/store/boot"
head -c 100K /dev/urandom >"$work/store/boot/small"
head -c 8M /dev/urandom >"$work/store/boot/image"
head -c 64M /dev/urandom >"$work/store/boot/large"
network
RUST_LOG=off exec ip netns exec $router \
    s3s-fs --host 0.0.0.0 --port 8014 --access-key key --secret-key secret "$work/store" &
pid[store]=$!
disown
sleep 1

for policy in 1 0; do
    for options in "" --single-port; do
        echo "40 clients, 100 KiB, spread by $([ $policy = 1 ] && echo 'addresses and ports' || echo addresses), ${options:-a port for each transfer}:"
        spread $policy 1 2
        serve 1 --cache 32M $options && serve 2 --cache 32M $options
        clients 40 small
        results
        stop 1 2
    done
done

echo "40 clients, 8 MiB, one store:"
for servers in "1" "1 2"; do
    for n in $servers; do serve "$n" --cache 32M --single-port; done
    # shellcheck disable=SC2086
    spread 1 $servers
    before=$(($(received 1) + $(received 2)))
    clients 40 image
    echo "  servers $servers received $((($(received 1) + $(received 2) - before) >> 10)) KiB, ACKs included"
    for n in $servers; do echo "  server $n took $(busy "$n")0 ms of its core"; done
    results
    # shellcheck disable=SC2086
    stop $servers
done

for how in "and the route stays" "and the route is taken away"; do
    echo "20 clients, 64 MiB; one of two servers is killed after 3 s $how:"
    serve 1 --cache 96M --single-port && serve 2 --cache 96M --single-port
    spread 1 1 2
    (
        sleep 3
        kill -9 ${pid[1]}
        [ "$how" = "and the route stays" ] || { sleep 0.5 && spread 1 2; }
    ) &
    clients 20 large
    results
    sort "$work"/said-* | uniq -c | sort -rn | sed 's/^/    /' | head -4
    stop 1 2
done
