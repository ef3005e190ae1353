#!/bin/sh
# Installs what tests/faces judges the API and its description with. From npm: newman, playwright-core, redocly's linter,
# openapi-typescript with openapi-fetch and a TypeScript compiler; from PyPI, into tests/faces/.venv: openapi-python-client and
# schemathesis; and a Chromium. Quiet and quick when all of it is there. Safe to run again.
set -eu
cd "$(dirname "$0")"

# The oldest that these packages still support.
NODE_MIN=20.19
PYTHON_MIN=3.11

fail() {
    echo "tests/faces: $1, then run tests/faces/install.sh again" >&2
    exit 1
}

# Installs Debian packages where that is possible without asking anybody.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root=sudo
    else
        return 1
    fi
    echo "tests/faces: installing $* with apt-get"
    $as_root apt-get -o DPkg::Lock::Timeout=300 update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "$@" >apt.log 2>&1 || {
        tail -n 20 apt.log >&2
        return 1
    }
    rm -f apt.log
}

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    apt_install nodejs npm || fail "install Node.js $NODE_MIN or later with npm (Debian: apt-get install nodejs npm)"
fi
is_new_enough='
const [major, minor] = process.versions.node.split(".").map(Number)
const [wanted, least] = process.argv[1].split(".").map(Number)
process.exit(major > wanted || (major === wanted && minor >= least) ? 0 : 1)'
if ! node -e "$is_new_enough" "$NODE_MIN"; then
    fail "this is Node.js $(node --version); install $NODE_MIN or later"
fi

# The names under which swagger.js looks for it.
found=
for name in "${VINTNER_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then
        found=$name
        break
    fi
done
if [ -z "$found" ]; then
    apt_install chromium ||
        fail "install Chromium or Chrome (Debian: apt-get install chromium), or name its program in VINTNER_CHROMIUM"
fi

# Nothing to do when what is installed is what the lock file says.
if ! { [ -f node_modules/.vintner-lock ] && cmp -s package-lock.json node_modules/.vintner-lock; }; then
    echo "tests/faces: installing newman, playwright-core, redocly, openapi-typescript and what they need from npm"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.vintner-lock
fi

if [ -f .venv/vintner-requirements ] && cmp -s requirements.txt .venv/vintner-requirements; then
    exit 0
fi
if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    apt_install python3-venv ||
        fail "install Python $PYTHON_MIN or later with its venv module (Debian: apt-get install python3-venv)"
fi
if ! python3 -c "import sys; sys.exit(sys.version_info < ($(echo "$PYTHON_MIN" | tr . ,)))"; then
    fail "this is $(python3 --version); install $PYTHON_MIN or later"
fi
echo "tests/faces: installing openapi-python-client, schemathesis and what they need from PyPI"
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install -q --disable-pip-version-check --only-binary :all: -r requirements.txt
cp requirements.txt .venv/vintner-requirements
