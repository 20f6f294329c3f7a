#!/bin/sh
# CPU per MiB of `tuffet serve --http` and of nginx, for the same file of a directory, in one run.
#
#     cargo build --release && benches/http.sh [MIB] [ROUNDS] [TUFFET]
#
# curl asks both in turns over loopback for one file in the page cache. In each round it fetches 256 MiB from each: a
# file of MIB (256) once, or a smaller one as often as it takes, on one connection. The figure is the processor time
# (user and system) of the server's processes, from /proc, so a busy machine slows the run and hardly changes the
# figure. nginx has one worker and `sendfile on`, as distributions configure it.
set -eu

mib=${1:-256} rounds=${2:-8} tuffet=${3:-target/release/tuffet}
times=$(((256 + mib - 1) / mib))
place=$(mktemp -d)
trap 'kill $pids 2>/dev/null && wait; rm -r "$place"' EXIT
pids=
mkdir "$place/files" "$place/temp"
chmod 755 "$place" "$place/files"
head -c "$((mib << 20))" /dev/urandom >"$place/files/file"

cat >"$place/nginx.conf" <<CONF
daemon off; master_process off; pid $place/pid; error_log stderr crit;
events { worker_connections 64; }
http {
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path $place/temp; proxy_temp_path $place/temp; fastcgi_temp_path $place/temp;
    uwsgi_temp_path $place/temp; scgi_temp_path $place/temp;
    server { listen 127.0.0.1:8091; root $place/files; }
}
CONF
nginx -c "$place/nginx.conf" -p "$place" &
nginx=$!
"$tuffet" serve "$place/files" --listen 127.0.0.1:0 --http 127.0.0.1:8092 --quiet >/dev/null &
server=$!
pids="$nginx $server"

# In ticks of 10 ms.
spent() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
fetch() { curl -sSf -o /dev/null "http://127.0.0.1:$1/file?[1-$2]"; }
for port in 8091 8092; do
    until fetch "$port" 1 2>/dev/null; do sleep 0.1; done
done

of_nginx=$(spent "$nginx") of_tuffet=$(spent "$server")
for _ in $(seq "$rounds"); do
    fetch 8091 "$times"
    fetch 8092 "$times"
done
of_nginx=$(($(spent "$nginx") - of_nginx)) of_tuffet=$(($(spent "$server") - of_tuffet))
awk -v mib="$((mib * times * rounds))" -v nginx="$of_nginx" -v tuffet="$of_tuffet" 'BEGIN {
    printf "%d MiB each: nginx %.0f µs/MiB, tuffet %.0f µs/MiB, ratio %.2f\n",
        mib, nginx * 10000 / mib, tuffet * 10000 / mib, tuffet / nginx
}'
