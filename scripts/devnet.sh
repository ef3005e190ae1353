#!/bin/sh
# Starts, stops and shows the network of `vintner devnet` in the background, for the Makefile.
# Usage: devnet.sh start|stop|status PROGRAM DIRECTORY API
set -eu
program=$2
dir=$3
api=$4
pid_file=$dir/devnet.pid
log=$dir/devnet.log

# The process of the pid file, if it is still ours: an id may have been given to another program since.
running() {
    [ -f "$pid_file" ] || return 1
    pid=$(cat "$pid_file")
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
    case $(ps -o args= -p "$pid" 2>/dev/null) in *devnet*) return 0 ;; *) return 1 ;; esac
}

say_what_to_try() {
    cat <<TRY
The network is ready: three nodes at http://127.0.0.1:4000, :4001 and :4002. Try:

  # create an offer on the first node, and keep its id
  ID=\$(curl -s $api/api/v1/offers -H 'content-type: application/json' -d '{"btc_quantity":"0.5","offer_price":"64000"}' \\
    | sed 's/.*"id":"\([^"]*\)".*/\1/')
  # it is listed on the second
  curl -s http://127.0.0.1:4001/api/v1/offers
  # buy it from the third: the answer holds the signed trade
  curl -s http://127.0.0.1:4002/api/v1/offers/\$ID/bids -H 'content-type: application/json' -d '{}'
  # try to buy it once more: offer_not_available
  curl -s http://127.0.0.1:4001/api/v1/offers/\$ID/bids -H 'content-type: application/json' -d '{}'

In a browser: $api/swagger-ui   Stop it: make stop-all   Its log: make logs
TRY
}

start() {
    if running; then
        echo "The network runs already (process $(cat "$pid_file")); stop it with: make stop-all"
        return 0
    fi
    mkdir -p "$dir"
    nohup "$program" devnet --data-dir "$dir/devnet" >"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    waited=0
    until grep -q 'network ready' "$log"; do
        if ! running; then
            rm -f "$pid_file"
            echo "The network did not start:" >&2
            tail -n 15 "$log" >&2
            exit 1
        fi
        if [ "$waited" -ge 120 ]; then
            echo "The network is not ready after a minute; it goes on trying. See: make logs, make status" >&2
            exit 1
        fi
        waited=$((waited + 1))
        sleep 0.5
    done
    say_what_to_try
}

stop() {
    if ! running; then
        rm -f "$pid_file"
        echo "The network does not run."
        return 0
    fi
    pid=$(cat "$pid_file")
    kill "$pid"
    waited=0
    while kill -0 "$pid" 2>/dev/null; do
        if [ "$waited" -ge 60 ]; then
            echo "Process $pid does not stop; see $log" >&2
            exit 1
        fi
        waited=$((waited + 1))
        sleep 0.5
    done
    rm -f "$pid_file"
    echo "Stopped. What was traded is kept in $dir/devnet."
}

status() {
    if ! running; then
        echo "The network does not run; start it with: make start-all"
        exit 1
    fi
    for port in 4000 4001 4002; do
        echo "http://127.0.0.1:$port"
        "$program" status --api "http://127.0.0.1:$port" | sed 's/^/  /'
    done
}

case $1 in
start) start ;;
stop) stop ;;
status) status ;;
*)
    echo "usage: devnet.sh start|stop|status PROGRAM DIRECTORY API" >&2
    exit 2
    ;;
esac
