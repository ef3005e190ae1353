#!/usr/bin/env bash
# Tests the image and docker-compose.yml with a real engine: six healthy containers, the README's tour by curl, who is kept out,
# what a `down` keeps, how fast a node stops, and what goes wrong as a person meets it. Run it by: make docker-test
# It has a project of its own, so that it touches no volume of yours, and removes all it made, except for the image.
set -euo pipefail
cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=vintner-test DIR=.vintner/docker-test VINTNER_API_PUBLISHED_FROM=

ok() { printf 'ok    %s\n' "$*"; }
die() { printf 'FAIL  %s\n' "$*" >&2; exit 1; }
has() { case $1 in *"$2"*) ;; *) die "$3: $1" ;; esac }

for need in docker curl make; do command -v "$need" >/dev/null || die "needs $need; install it and run this again"; done
docker info >/dev/null 2>&1 || die 'needs a Docker engine that you may use; `docker info` says what is missing'
if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif command -v docker-compose >/dev/null; then compose=(docker-compose)
else die 'needs `docker compose` or `docker-compose`'; fi

clean() {
    docker rm -f vintner-test-port >/dev/null 2>&1 || true
    "${compose[@]}" down --volumes >/dev/null 2>&1 || true
    rm -rf "$DIR"
}
trap clean EXIT
clean

network() { WITH=compose sh scripts/network.sh "$1"; }
api() { curl -sS --noproxy '*' --max-time 30 -H 'content-type: application/json' "http://127.0.0.1:$1/api/v1/$2" "${@:3}"; }
field() { awk -F "\"$1\":\"" '{ split($2, value, "\""); print value[1] }'; } # the first of that name
container() { "${compose[@]}" ps -q "$1"; }
listed() { # PORT ID: waits until the node lists it
    for _ in $(seq 100); do case $(api "$1" offers) in *"$2"*) return 0 ;; esac; sleep 0.2; done
    die "port $1 does not list $2"
}
gone() {
    for _ in $(seq 100); do case $(api "$1" offers) in *"$2"*) sleep 0.2 ;; *) return 0 ;; esac; done
    die "port $1 still lists $2"
}
all_healthy() {
    for _ in $(seq 90); do
        healthy=$(docker inspect --format '{{.State.Health.Status}}' $("${compose[@]}" ps -q) | grep -c '^healthy$' || true)
        [ "$healthy" -eq 6 ] && return 0
        sleep 1
    done
    die "only $healthy containers are healthy"
}

# A port that another program has.
docker build -q -t vintner . >/dev/null || docker build -t vintner .
docker run -d --rm --name vintner-test-port -p 127.0.0.1:4001:4001 vintner grape --dp 1 --aph 2 --bn '' >/dev/null
code=0; said=$(network start 2>&1) || code=$?
[ "$code" -eq 3 ] || die "a taken port ends with $code: $said"
has "$said" '4001 (TCP)' 'the taken port is not named'
docker rm -f vintner-test-port >/dev/null
[ -z "$("${compose[@]}" ps -q)" ] || die 'something was left running after a port was taken'
ok 'a taken port is named, and nothing is left running'

# Six healthy containers, published on loopback only.
network start >/dev/null || die 'the network did not start'
all_healthy
ok 'six healthy containers'
published=$(docker inspect --format '{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}}:{{.HostPort}} {{end}}{{end}}' $("${compose[@]}" ps -q) | xargs)
for expected in 127.0.0.1:4000 127.0.0.1:4001 127.0.0.1:4002; do has "$published" "$expected" 'a port is not published'; done
[ "$(wc -w <<<"$published")" -eq 3 ] || die "more is published: $published"
[ "$("${compose[@]}" exec -T server-01 id -u | tr -d '\r')" = 10001 ] || die 'the node runs as another user'
ok "published: $published; not as root"

# The tour.
offer=$(api 4000 offers -d '{"btc_quantity":"0.5","offer_price":"64000"}'); id=$(field id <<<"$offer")
listed 4001 "$id"; listed 4002 "$id"
has "$(api 4002 "offers/$id/bids" -d '{}')" '"status":"accepted"' 'the bid was not accepted'
gone 4001 "$id"
has "$(api 4001 "offers/$id/bids" -d '{}')" offer_not_available 'the offer was sold twice'
open=$(api 4000 offers -d '{"btc_quantity":"1","offer_price":"100"}' | field id)
listed 4002 "$open"
ok 'the tour: created, listed, sold once, gone'
status=$(network status)
has "$status" ready 'make status does not show the nodes'

# By command, as README says: each container's program is set up for its own node, also for a copy of its store.
has "$("${compose[@]}" exec -T server-02 vintner offers list)" "$open" 'the program of a container does not list'
"${compose[@]}" exec -T server-01 vintner backup /data/copy.db >/dev/null || die 'a store in a container cannot be copied'
ok 'each container has the program, set up for its node'

# A fourth node, by the line in README.
docker run -d --rm --name vintner-test-port --network "${COMPOSE_PROJECT_NAME}_exchange" -p 127.0.0.1:4003:4003 \
    -e VINTNER_API=0.0.0.0:4003 -e VINTNER_API_PUBLISHED=127.0.0.1:4003 vintner node --join server-01:1337 >/dev/null
for _ in $(seq 100); do curl -s --noproxy '*' http://127.0.0.1:4003/readyz 2>/dev/null | grep -q '"ready"' && break; sleep 0.2; done
listed 4003 "$open"
has "$(api 4003 node)" '"network":"devnet"' 'the fourth node is in another network'
docker rm -f vintner-test-port >/dev/null
ok 'a fourth node joins by one line'

# Who is kept out: pages, other names, and neighbours on the container network whatever they say they are.
has "$(api 4000 node -H 'host: evil.example:4000')" foreign_host 'another name is served'
has "$(api 4000 node -H 'origin: http://evil.example')" foreign_origin 'a page is served'
neighbour=$(docker exec -i "$(container grape-1)" bash -c 'exec 3<>/dev/tcp/server-01/4000
    printf "GET /api/v1/node HTTP/1.1\r\nhost: 127.0.0.1:4000\r\nconnection: close\r\n\r\n" >&3; cat <&3')
has "$neighbour" foreign_peer 'another container is served'
ok 'pages, other names and other containers are refused'

# A node of its own that is not published has a token, and a wrong one is refused.
docker run -d --rm --name vintner-test-port -e VINTNER_API=0.0.0.0:4000 vintner node --bootstrap '' >/dev/null
for _ in $(seq 50); do docker exec vintner-test-port test -s /data/api-token 2>/dev/null && break; sleep 0.2; done
code=0; said=$(docker exec vintner-test-port vintner status --token wrong-wrong-wrong-wrong-wrong-wrong 2>&1) || code=$?
[ "$code" -eq 1 ] || die "a wrong token ends with $code: $said"
has "$said" '--token-file' 'a wrong token is not explained'
docker exec vintner-test-port vintner status --token-file /data/api-token >/dev/null || die 'the right token is refused'
docker rm -f vintner-test-port >/dev/null
ok 'without --api-published a token is required; a wrong one is refused with what to do'

# A second node on the same data.
code=0; said=$(docker run --rm --volumes-from "$(container server-01)" vintner node 2>&1) || code=$?
[ "$code" -eq 5 ] || die "a second node on the same data ends with $code: $said"
has "$said" 'is in use by' 'the second node does not say why it ends'
ok 'a second node on the same volume says who has it, and ends with 5'

# SIGTERM reaches the first process of each container, and is obeyed in time.
for service in server-03 grape-3; do
    id_of=$(container "$service")
    before=$(date +%s%N); docker stop "$id_of" >/dev/null; took=$((($(date +%s%N) - before) / 1000000))
    code=$(docker inspect --format '{{.State.ExitCode}}' "$id_of")
    [ "$code" -eq 0 ] && [ "$took" -lt 2000 ] || die "$service stopped in $took ms with $code"
    ok "$service stopped by itself in $took ms"
done

# Down and up: the same nodes with the same offers.
client=$(api 4000 node | field client_id)
"${compose[@]}" down >/dev/null 2>&1 && "${compose[@]}" up -d >/dev/null 2>&1 || die 'down and up failed'
all_healthy
[ "$(api 4000 node | field client_id)" = "$client" ] || die 'the node is another one after down and up'
has "$(api 4000 trades)" "$id" 'the trade is lost'
listed 4000 "$open"; listed 4002 "$open"
ok 'down and up keeps identities, offers and trades'

# A volume that a newer version wrote: SQLite keeps the schema's number in bytes 60 to 63.
"${compose[@]}" stop server-01 >/dev/null 2>&1
volume=${COMPOSE_PROJECT_NAME}_server-01
docker run --rm --entrypoint bash -v "$volume:/data" vintner -c \
    'printf "\377" | dd of=/data/vintner.db bs=1 seek=63 conv=notrunc status=none'
code=0; said=$(docker run --rm -v "$volume:/data" vintner node --network devnet 2>&1) || code=$?
[ "$code" -eq 6 ] || die "a newer store ends with $code: $said"
code=0; said=$(network start 2>&1) || code=$?
[ "$code" -eq 1 ] || die "the network with a newer store ends with $code: $said"
has "$said" 'run the newer version' 'make start-all does not show why a node does not start'
ok 'a volume of a newer version is named by the node (6) and by make start-all'

network stop >/dev/null || die 'the network did not stop'
"${compose[@]}" down --volumes >/dev/null 2>&1

# On other ports; later commands find them by themselves.
OFFSET=100 network start >/dev/null || die 'the moved network did not start'
has "$(api 4100 node)" '"network":"devnet"' 'the moved network does not answer'
has "$(network start)" http://127.0.0.1:4100 'the moved network is not found again'
has "$("${compose[@]}" exec -T server-03 vintner status)" ready 'the program of a moved container does not find its node'
network stop >/dev/null || die 'the moved network did not stop'
ok 'all ports are moved by OFFSET'
left=$(docker ps -a -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")$(docker network ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
[ -z "$left" ] || die "left behind: $left"
ok 'make stop-all leaves nothing running'
