#!/bin/sh
# Runs the test suites of stock Grenache packages with `vintner grape` in place of their grape: sh tests/suites/run.sh PROGRAM [SUITE...]
#
# The suites come with the packages, which npm installs at the versions of package-lock.json; nothing of them is kept here. They
# use fixed ports (1337, 20000 to 20100, 30000 to 30002, 40001 to 40100), so they get a network of their own. Where the kernel allows none,
# VINTNER_WITHOUT_NAMESPACES=1 has them use this machine's ports.
set -eu
cd "$(dirname "$0")"

usage="usage: sh tests/suites/run.sh PROGRAM [grape] [link] [http] [http-0] [ws]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
case $1 in /*) VINTNER=$1 ;; *) VINTNER=$OLDPWD/$1 ;; esac
shift
[ -x "$VINTNER" ] || { echo "tests/suites: $VINTNER is no program; build it first: make build" >&2; exit 1; }
export VINTNER

sh ../peers/install.sh
if ! { [ -f node_modules/.vintner-lock ] && cmp -s package-lock.json node_modules/.vintner-lock; }; then
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.vintner-lock
fi

# A stock grape's own suite asks for `./../` and `./../lib/Grape`: it is copied beside the stand-in. Its tests of its own way to write
# names (utils.js) are not about a grape.
grape=node_modules/.grape
rm -rf "$grape" node_modules/.run
mkdir -p "$grape" node_modules/.run
cp -R node_modules/grape-suite/test "$grape/test"
cp -R stand-in/index.js stand-in/lib "$grape/"
rm "$grape/test/utils.js"

here=$PWD
NODE_PATH=$here/node_modules
export NODE_PATH

# How many tests each has: a suite that is not found, or skips some, has not passed.
suite() {
    case $1 in
        grape) dir=$grape tests=16 ;;
        link) dir=node_modules/grenache-nodejs-link tests=5 ;;
        http) dir=node_modules/grenache-nodejs-http tests=30 ;;
        http-0) dir=node_modules/http-0 tests=14 ;;
        ws) dir=node_modules/grenache-nodejs-ws tests=2 ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
    echo "tests/suites: $1"
    # Long enough for a slow machine where a test says nothing itself. Some write where they are started.
    said=$(cd node_modules/.run && node ../mocha/bin/mocha.js --exit --timeout 10000 --forbid-pending --reporter json \
        "$here/$dir/test/*.js" 2>../.stderr) && passed=true || passed=false
    printf '%s' "$said" | node count.js "$1" "$tests" || passed=false
    $passed || { cat node_modules/.stderr >&2; exit 1; }
}

# A network of their own, with its loopback up, without being root.
if [ -z "${VINTNER_ALONE:-}" ]; then
    case ${VINTNER_WITHOUT_NAMESPACES:-0}:${CI:-} in
        0:*)
            why=$(unshare --user --map-root-user --net sh -c 'ip link set lo up' 2>&1) || {
                echo "tests/suites: the suites need a network of their own, and cannot have one: $why; allow it (sysctl -w" \
                    "kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1, or a larger" \
                    "user.max_user_namespaces, whichever there is; in a container: --privileged; the command ip is of the" \
                    "package iproute2), or let them use this machine's ports with VINTNER_WITHOUT_NAMESPACES=1" >&2
                exit 1
            }
            VINTNER_ALONE=1
            export VINTNER_ALONE
            exec unshare --user --map-root-user --net sh -c 'ip link set lo up && exec sh ./run.sh "$0" "$@"' "$VINTNER" "$@"
            ;;
        1: | 1:0 | 1:false)
            echo "tests/suites: no network of their own here, so ports 1337, 2000x, 3000x and 400xx have to be free" ;;
        1:*)
            echo "tests/suites: VINTNER_WITHOUT_NAMESPACES is set and so is CI; unset one of them" >&2
            exit 1
            ;;
        *)
            echo "tests/suites: VINTNER_WITHOUT_NAMESPACES is $VINTNER_WITHOUT_NAMESPACES; set it to 1, or not at all" >&2
            exit 1
            ;;
    esac
fi

for name in ${*:-grape link http http-0 ws}; do
    suite "$name"
done
