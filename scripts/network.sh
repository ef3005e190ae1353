#!/bin/sh
# Starts, stops and shows the network of three grapes and three nodes, for the Makefile: in containers by Compose where a Docker
# engine answers, else by `vintner devnet` on this machine. Which one runs is kept in a file, so that every command fits it.
#
# Usage: network.sh start|stop|status|logs, in the repository. Settings come from the environment:
#   WITH     compose or devnet: that one and no other; empty: what this machine has
#   VINTNER  the program; DIR  where the devnet, its log and the note are kept; MAKE  what builds the program
# Exit codes: 0 done, 1 failed or not running, 2 wrong usage, 3 a port is taken, 4 no usable Docker engine or Compose.
set -eu
program=${VINTNER:-target/release/vintner}
dir=${DIR:-.vintner}
with=${WITH:-}
pid_file=$dir/devnet.pid
log=$dir/devnet.log
note=$dir/network
ports='4000 4001 4002'
api=http://127.0.0.1:4000
failed=1 usage=2 port_taken=3 no_engine=4

fail() {
    code=$1
    shift
    printf '%s\n' "$@" >&2
    exit "$code"
}

# --- which one ---------------------------------------------------------------------------------------------------------------

# Sets `compose` to the command, or `missing` to what this machine lacks and what to do about it.
find_compose() {
    compose='' missing=''
    if ! command -v docker >/dev/null 2>&1; then
        missing='Docker is not installed (https://docs.docker.com/engine/install/).'
        return 0
    fi
    # The client ends well also when no engine answers, unless it is asked for something of the engine's.
    if ! said=$(docker info --format '{{.ServerVersion}}' 2>&1); then
        case $said in
        *'permission denied'*)
            missing="The Docker engine runs, but you ($(id -un)) may not use its socket.
Run \`sudo usermod -aG docker $(id -un)\`, then log out and in again (or use \`newgrp docker\`)." ;;
        *)
            missing="No Docker engine answers; start it (\`sudo systemctl start docker\`, or Docker Desktop).
It said: $(printf '%s\n' "$said" | tail -n 1)" ;;
        esac
        return 0
    fi
    if docker compose version >/dev/null 2>&1; then
        compose='docker compose'
    elif command -v docker-compose >/dev/null 2>&1; then
        compose=docker-compose
    else
        missing='The Docker engine answers, but there is neither `docker compose` nor `docker-compose`.
Install the Compose plugin (https://docs.docker.com/compose/install/).'
    fi
}

need_compose() {
    find_compose
    [ -n "$compose" ] || fail $no_engine "$missing"
}

# The process of the pid file, if it is still ours: an id may have been given to another program since.
devnet_runs() {
    [ -f "$pid_file" ] || return 1
    pid=$(cat "$pid_file")
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
    case $(ps -o args= -p "$pid" 2>/dev/null) in *devnet*) return 0 ;; *) return 1 ;; esac
}

# Prints compose or devnet, when the note says that it was started.
started() {
    if [ -f "$note" ]; then cat "$note"; elif devnet_runs; then echo devnet; fi
}

# --- starting ----------------------------------------------------------------------------------------------------------------

say_what_to_try() {
    cat <<TRY
The network is ready: three nodes at http://127.0.0.1:4000, :4001 and :4002 ($1). Try:

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

# Before anything is built: curl ends with 7 when nobody listens.
check_ports() {
    command -v curl >/dev/null 2>&1 || return 0
    for port in $ports; do
        code=0
        curl -s -o /dev/null --noproxy '*' --max-time 2 "http://127.0.0.1:$port/healthz" || code=$?
        [ "$code" -eq 7 ] || say_port_taken "$port"
    done
}

say_port_taken() {
    fail $port_taken "Port $1 of 127.0.0.1 is taken by another program, and the network needs 4000, 4001 and 4002." \
        "See which it is (\`ss -ltnp 'sport = :$1'\` or \`lsof -i :$1\`), stop it, and run \`make start-all\` again."
}

start() {
    case $with in
    '' | compose | devnet) ;;
    *) fail $usage "WITH=$with is unknown; use \`make start-all WITH=compose\`, WITH=devnet, or neither" ;;
    esac
    running=$(started)
    if [ -n "$running" ] && [ -n "$with" ] && [ "$running" != "$with" ]; then
        fail $failed "The network was started with $running; stop it first: make stop-all"
    fi
    case ${running:-$with} in
    compose) need_compose && start_compose ;;
    devnet) start_devnet ;;
    *)
        find_compose
        if [ -n "$compose" ]; then
            start_compose
        else
            printf '%s\n' "$missing" 'So the network runs as programs of this machine (vintner devnet), on the same ports.' ''
            start_devnet
        fi
        ;;
    esac
}

start_devnet() {
    if devnet_runs; then
        echo "The network runs already (process $(cat "$pid_file")); stop it with: make stop-all"
        return 0
    fi
    check_ports
    ${MAKE:-make} --no-print-directory build
    mkdir -p "$dir"
    # Emptied here and not by the program's own start, which may come after the first look at it.
    : >"$log"
    nohup "$program" devnet --data-dir "$dir/devnet" >>"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    echo devnet >"$note"
    waited=0
    until grep -q 'network ready' "$log"; do
        if ! devnet_runs; then
            rm -f "$pid_file" "$note"
            echo "The network did not start:" >&2
            tail -n 15 "$log" >&2
            grep -q 'port [0-9]* cannot be had' "$log" && exit $port_taken
            exit $failed
        fi
        [ "$waited" -lt 120 ] ||
            fail $failed "The network is not ready after a minute; it goes on trying. See: make logs, make status"
        waited=$((waited + 1))
        sleep 0.5
    done
    say_what_to_try 'vintner devnet'
}

# --- Compose -----------------------------------------------------------------------------------------------------------------

# One line a container: name, state, health, how often it was started again.
containers() {
    ids=$($compose ps -q 2>/dev/null) || return 0
    [ -z "$ids" ] || docker inspect --format \
        '{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.RestartCount}}' $ids \
        2>/dev/null | sed 's|^/||'
}

healthy() { containers | grep -c ' running healthy ' || true; }

start_compose() {
    if [ "$(healthy)" -eq 6 ]; then
        echo 'The network runs already, in containers; stop it with: make stop-all'
        return 0
    fi
    [ -n "$($compose ps -q 2>/dev/null)" ] || check_ports
    mkdir -p "$dir"
    echo 'Building the image; the first time takes some minutes.'
    $compose build -q >"$dir/compose.log" 2>&1 || {
        tail -n 25 "$dir/compose.log" >&2
        fail $failed "The image could not be built; the lines above say why. All of them: $dir/compose.log." \
            'Without containers: make start-all WITH=devnet'
    }
    echo compose >"$note"
    $compose up -d --no-build >"$dir/compose.log" 2>&1 || compose_failed
    waited=0
    while [ "$(healthy)" -lt 6 ]; do
        # A container that was started again has ended by itself, and its last words say why.
        ill=$(containers | awk '$4 > 0 || $2 == "exited" || $3 == "unhealthy" { print $1; exit }')
        [ -z "$ill" ] || container_failed "$ill"
        [ "$waited" -lt 90 ] ||
            fail $failed 'Not all containers are healthy after 90 s; they go on trying. See: make logs, make status'
        waited=$((waited + 1))
        sleep 1
    done
    check_published
    say_what_to_try 'in containers'
}

compose_failed() {
    port=$(sed -n -e '/already allocated\|address already in use/s/.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$dir/compose.log" | head -n 1)
    ill=$(containers | awk '$4 > 0 || $3 == "unhealthy" { print $1; exit }')
    [ -n "$port" ] || [ -z "$ill" ] || container_failed "$ill"
    $compose down >/dev/null 2>&1 || true
    rm -f "$note"
    [ -z "$port" ] || say_port_taken "$port"
    tail -n 25 "$dir/compose.log" >&2
    fail $failed "Compose could not start the network; the lines above say why." 'Without containers: make start-all WITH=devnet'
}

container_failed() {
    echo "The container $1 does not keep running. Its last lines:" >&2
    docker logs --tail 5 "$1" >&2 || true
    docker inspect --format '{{with .State.Health}}{{if eq .Status "unhealthy"}}{{range .Log}}{{.Output}}{{end}}{{end}}{{end}}' "$1" 2>/dev/null |
        tail -n 2 >&2
    fail $failed 'Mend that, then run: make stop-all && make start-all'
}

# Inside they are ready; what the engine publishes may still not be taken for the host's own.
check_published() {
    command -v curl >/dev/null 2>&1 || return 0
    for port in $ports; do
        answer=$(curl -sS --noproxy '*' --max-time 5 "http://127.0.0.1:$port/readyz" 2>&1) || true
        case $answer in
        *'"ready"'*) ;;
        *) fail $failed "The containers are healthy, but http://127.0.0.1:$port does not serve this machine:" "$answer" ;;
        esac
    done
}

# --- the other commands ------------------------------------------------------------------------------------------------------

stop() {
    case $(started) in
    compose)
        need_compose
        $compose down >"$dir/compose.log" 2>&1 || {
            tail -n 15 "$dir/compose.log" >&2
            fail $failed 'Compose could not stop the network; the lines above say why.'
        }
        rm -f "$note"
        echo 'Stopped. What was traded is kept in the volumes (`docker volume ls`).'
        ;;
    devnet) stop_devnet ;;
    *)
        # `docker compose up` by hand leaves no note.
        find_compose
        if [ -n "$compose" ] && [ -n "$($compose ps -q 2>/dev/null)" ]; then
            mkdir -p "$dir"
            echo compose >"$note"
            stop
        else
            echo 'The network does not run.'
        fi
        ;;
    esac
}

stop_devnet() {
    if ! devnet_runs; then
        rm -f "$pid_file" "$note"
        echo 'The network does not run.'
        return 0
    fi
    pid=$(cat "$pid_file")
    kill "$pid"
    waited=0
    while kill -0 "$pid" 2>/dev/null; do
        [ "$waited" -lt 60 ] || fail $failed "Process $pid does not stop; see $log"
        waited=$((waited + 1))
        sleep 0.5
    done
    rm -f "$pid_file" "$note"
    echo "Stopped. What was traded is kept in $dir/devnet."
}

status() {
    case $(started) in
    compose)
        need_compose
        [ -n "$(containers)" ] || fail $failed 'The network does not run; start it with: make start-all'
        $compose ps
        for node in server-01 server-02 server-03; do
            echo "$node"
            $compose exec -T "$node" vintner status | sed 's/^/  /'
        done
        ;;
    devnet)
        devnet_runs || fail $failed 'The network does not run; start it with: make start-all'
        for port in $ports; do
            echo "http://127.0.0.1:$port"
            "$program" status --api "http://127.0.0.1:$port" | sed 's/^/  /'
        done
        ;;
    *) fail $failed 'The network does not run; start it with: make start-all' ;;
    esac
}

logs() {
    case $(started) in
    compose) need_compose && $compose logs -f --tail 100 ;;
    *)
        [ -f "$log" ] || fail $failed 'There is no log yet; run: make start-all'
        tail -n 100 -f "$log"
        ;;
    esac
}

case ${1:-} in
start | stop | status | logs) "$1" ;;
*) fail $usage 'usage: network.sh start|stop|status|logs' ;;
esac
