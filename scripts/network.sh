#!/bin/sh
# Starts, stops and shows the network of three grapes and three nodes, for the Makefile: in containers by Compose where a Docker
# engine answers, else by `vintner devnet` on this machine. Which one runs is kept in a file, so that every command fits it.
#
# Usage: network.sh start|stop|status|logs, in the repository. Settings come from the environment:
#   WITH     compose or devnet: that one and no other; empty: what this machine has
#   OFFSET   a number that is added to every port, for a second network beside the first
#   VINTNER  the program; DIR  where the devnet, its log and the note are kept; MAKE  what builds the program
#   NET      where Linux tells which ports are in use (only tests have another)
# Exit codes: 0 done, 1 failed or not running, 2 wrong usage, 3 a port is taken, 4 no usable Docker engine or Compose.
set -eu
program=${VINTNER:-target/release/vintner}
dir=${DIR:-.vintner}
# make passes it on as it was written, and no shell reads it before this one.
case $dir in '~' | '~/'*) dir=$HOME${dir#'~'} ;; esac
with=${WITH:-}
offset=${OFFSET:-0}
net=${NET:-/proc/net}
pid_file=$dir/devnet.pid
log=$dir/devnet.log
note=$dir/network
was_in_containers=$dir/compose.used
failed=1 usage=2 port_taken=3 no_engine=4

fail() {
    code=$1
    shift
    printf '%s\n' "$@" >&2
    exit "$code"
}

# --- ports -------------------------------------------------------------------------------------------------------------------

# All ports, moved by the number given.
set_ports() {
    offset=${1:-0}
    api_port=$((4000 + offset)) rpc_port=$((1337 + offset)) dht_port=$((20011 + offset))
    grape_dht_port=$((20001 + offset)) grape_http_port=$((30001 + offset))
    ports="$api_port $((api_port + 1)) $((api_port + 2))"
    api=http://127.0.0.1:$api_port
    # For docker-compose.yml.
    export VINTNER_API_PORT_1=$api_port VINTNER_API_PORT_2=$((api_port + 1)) VINTNER_API_PORT_3=$((api_port + 2))
}

case $offset in
'' | *[!0-9]* | 0?* | ??????*) fail 2 "OFFSET=$offset is no number from 0 to 30000; it is added to every port, as in: make start-all OFFSET=100" ;;
esac
[ "$offset" -le 30000 ] || fail 2 "OFFSET=$offset is more than 30000, and there are no ports above 65535; try: make start-all OFFSET=100"

# Whether somebody listens on this port of 127.0.0.1, or of every address. Linux tells; elsewhere curl tells of TCP, by ending with
# 7 where nobody listens, and of the rest the devnet's own start.
is_taken() {
    if [ -r "$net/$1" ]; then
        for file in "$net/$1" "$net/${1}6"; do
            [ -r "$file" ] || continue
            awk -v port="$(printf '%04X' "$2")" -v kind="$1" '
                { n = split($2, at, ":"); here = at[1] == "0100007F" || at[1] ~ /^0+$/ || at[1] ~ /FFFF00000100007F$/ }
                n == 2 && here && at[2] == port && (kind == "udp" || $4 == "0A") { found = 1 }
                END { exit !found }' "$file" && return 0
        done
        return 1
    fi
    [ "$1" = tcp ] && command -v curl >/dev/null 2>&1 || return 1
    code=0
    curl -s -o /dev/null --noproxy '*' --max-time 2 "http://127.0.0.1:$2/healthz" || code=$?
    [ "$code" -ne 7 ]
}

# Before anything is built. Containers need the first three ports only, the devnet all.
check_ports() {
    needed="tcp:$api_port"
    [ "$1" = compose ] || needed="$needed tcp:$rpc_port udp:$dht_port udp:$grape_dht_port tcp:$grape_http_port"
    taken=''
    for first in $needed; do
        for n in 0 1 2; do
            port=$((${first#*:} + n))
            if is_taken "${first%:*}" "$port"; then taken="$taken ${first%:*}:$port"; fi
        done
    done
    [ -z "$taken" ] || say_ports_taken $taken
}

# Where on this machine another network of this kind runs, when it can be told: `process 17 in /home/me/vintner`.
other_network() {
    for one in /proc/[0-9]*; do
        [ -r "$one/cmdline" ] || continue
        case "$(tr '\0' ' ' <"$one/cmdline" 2>/dev/null)" in
        *' devnet '*" --api-port $api_port "*)
            echo "process ${one#/proc/}$(place=$(readlink "$one/cwd" 2>/dev/null) && printf ' in %s' "$place")"
            return 0
            ;;
        esac
    done
    command -v docker >/dev/null 2>&1 || return 0
    docker ps --filter "publish=$1" --format '{{.Label "com.docker.compose.project.working_dir"}}' 2>/dev/null |
        sed -n '/./{s/^/containers of /;p;q;}' || true
}

# Arguments: tcp:PORT or udp:PORT each.
say_ports_taken() {
    names='' first=${1#*:} kind=${1%:*}
    for one in "$@"; do names="$names${names:+, }${one#*:} ($(echo "${one%:*}" | tr a-z A-Z))"; done
    other=$(other_network "$first")
    if [ -n "$other" ]; then
        who="Another network of vintner has them ($other): run \`make stop-all\` there"
    else
        who="See who has them (\`ss -ln${kind%??}p 'sport = :$first'\` or \`lsof -i :$first\`) and stop it"
    fi
    moved=100
    [ "$offset" -lt 100 ] || moved=$((offset + 100))
    fail $port_taken "These ports of 127.0.0.1 are taken, and the network needs them: $names." \
        "$who, or start this network on other ports, all moved by $moved: make start-all OFFSET=$moved"
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
    case $(arguments "$pid") in *devnet*) return 0 ;; *) return 1 ;; esac
}

# The command line of a process: Linux tells it also where there is no `ps`, as in slim images.
arguments() {
    if [ -r /proc/self/cmdline ]; then
        tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null
    else
        ps -o args= -p "$1" 2>/dev/null
    fi
}

[ -r /proc/self/cmdline ] || command -v ps >/dev/null 2>&1 ||
    fail $failed 'Neither /proc nor `ps` is here to tell what runs; install the package procps, and try again.'

# Prints compose or devnet, when the note says that it was started.
started() {
    if [ -f "$note" ]; then sed 's/ .*//' "$note"; elif devnet_runs; then echo devnet; fi
}

# The note of what was started, with its offset where it has one.
take_note() {
    mkdir -p "$dir"
    case $offset in 0) echo "$1" ;; *) echo "$1 $offset" ;; esac >"$note"
}

# A network that was started keeps its ports until it is stopped, whatever OFFSET says now.
set_ports_as_started() {
    set_ports "$(sed -n 's/^[a-z]* \([0-9]*\)$/\1/p' "$note" 2>/dev/null || true)"
}

# The two kinds of network know nothing of each other; one line for whoever misses what was traded in the other.
say_where_the_other_is() {
    case $1 in
    devnet)
        [ ! -f "$was_in_containers" ] ||
            echo 'What was traded in containers is another network, kept in its volumes: make start-all WITH=compose'
        ;;
    compose)
        [ ! -d "$dir/devnet" ] ||
            echo "What was traded without containers is another network, kept in $dir/devnet: make start-all WITH=devnet"
        ;;
    esac
}

# --- starting ----------------------------------------------------------------------------------------------------------------

say_what_to_try() {
    cat <<TRY
The network is ready: three nodes at $api, :$((api_port + 1)) and :$((api_port + 2)) ($1). Try:

  # create an offer on the first node, and keep its id
  ID=\$(curl -s $api/api/v1/offers -H 'content-type: application/json' -d '{"btc_quantity":"0.5","offer_price":"64000"}' \\
    | sed 's/.*"id":"\([^"]*\)".*/\1/')
  # it is listed on the second
  curl -s http://127.0.0.1:$((api_port + 1))/api/v1/offers
  # buy it from the third, and nothing else than what was seen: the answer holds the signed trade
  BID='{"side":"sell","btc_quantity":"0.5","currency":"USD","price":"64000"}'
  curl -s http://127.0.0.1:$((api_port + 2))/api/v1/offers/\$ID/bids -H 'content-type: application/json' -d "\$BID"
  # try to buy it once more: offer_not_available
  curl -s http://127.0.0.1:$((api_port + 1))/api/v1/offers/\$ID/bids -H 'content-type: application/json' -d "\$BID"

In a browser: $api/swagger-ui   Stop it: make stop-all   Its log: make logs
TRY
    command -v curl >/dev/null 2>&1 || echo 'curl is not installed here; the lines above need it, and the README has the same by command.'
}

start() {
    case $with in
    '' | compose | devnet) ;;
    *) fail $usage "WITH=$with is unknown; use \`make start-all WITH=compose\`, WITH=devnet, or neither" ;;
    esac
    running=$(started)
    if [ -n "$running" ]; then set_ports_as_started; else set_ports "$offset"; fi
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
        echo "The network runs already (process $(cat "$pid_file"), first node at $api); stop it with: make stop-all"
        return 0
    fi
    check_ports devnet
    say_where_the_other_is devnet
    ${MAKE:-make} --no-print-directory build
    mkdir -p "$dir"
    # Emptied here and not by the program's own start, which may come after the first look at it.
    : >"$log"
    nohup "$program" devnet --data-dir "$dir/devnet" --api-port "$api_port" --rpc-port "$rpc_port" --dht-port "$dht_port" \
        --grape-dht-port "$grape_dht_port" --grape-http-port "$grape_http_port" >>"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    take_note devnet
    waited=0
    until grep -q 'network ready' "$log"; do
        if ! devnet_runs; then
            rm -f "$pid_file" "$note"
            echo "The network did not start:" >&2
            tail -n 15 "$log" >&2
            taken=$(sed -n '/cannot be had/{s/ cannot be had.*//;s/^[^:]*: //;s/ port /:/g;s/,//g;p;}' "$log" | tail -n 1 | tr A-Z a-z)
            [ -z "$taken" ] || say_ports_taken $taken
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

# Compose knows a network by the name of the directory, which two clones may share.
not_of_another_clone() {
    one=$($compose ps -q 2>/dev/null | head -n 1) || return 0
    [ -n "$one" ] || return 0
    place=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.project.working_dir"}}' "$one" 2>/dev/null) || return 0
    case $place in '' | "$(pwd)" | "$(pwd -P)") return 0 ;; esac
    fail $failed "Containers of another clone, $place, run under the name that Compose gives to this one, too." \
        'Stop them there, or give this network a name and ports: COMPOSE_PROJECT_NAME=second make start-all OFFSET=100' \
        'Keep the name for every command: export COMPOSE_PROJECT_NAME=second'
}

start_compose() {
    not_of_another_clone
    if [ "$(healthy)" -eq 6 ]; then
        echo "The network runs already, in containers, first node at $api; stop it with: make stop-all"
        return 0
    fi
    [ -n "$($compose ps -q 2>/dev/null)" ] || check_ports compose
    say_where_the_other_is compose
    mkdir -p "$dir"
    echo 'Building the image; the first time takes some minutes.'
    $compose build -q >"$dir/compose.log" 2>&1 || {
        tail -n 25 "$dir/compose.log" >&2
        fail $failed "The image could not be built; the lines above say why. All of them: $dir/compose.log." \
            'Without containers: make start-all WITH=devnet'
    }
    take_note compose
    : >"$was_in_containers"
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
    [ -z "$port" ] || say_ports_taken "tcp:$port"
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
    if ! command -v curl >/dev/null 2>&1; then
        echo "curl is not installed, so whether $api answers this machine was not tried, and the lines below need it."
        return 0
    fi
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
            take_note compose
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
    set_ports_as_started
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
