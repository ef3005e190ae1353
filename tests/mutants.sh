#!/usr/bin/env bash
# Plants one bug after the other (cfg(mutant = "NAME") in src/) and demands that it is found: by tests/whole, tests/replication, or the
# property tests of the replication core those that are called replica_..., by unit tests those that are called fair_..., by tests/simulation
# the others, those that are called terms_... also by the unit tests of the exchange core.
#
#   tests/mutants.sh            every bug in src/
#   tests/mutants.sh NAME...    only these
#
# RUSTC_WORKSPACE_WRAPPER adds the cfg for this package alone, and its path is part of cargo's fingerprints for this package
# alone: dependencies are built once and shared with ordinary builds, each bug's build is kept apart.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
# That a planted bug is found is enough: nobody reads how.
export VINTNER_SIM_SHRINK=0
mapfile -t planted < <(grep -rhoE 'mutant = "[a-z_]+"' src | cut -d'"' -f2 | sort -u)
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${planted[@]}")
for name in "${wanted[@]}"; do
    if ! printf '%s\n' "${planted[@]}" | grep -qx "$name"; then
        echo "no bug is called $name; there are: ${planted[*]}" >&2
        exit 2
    fi
done

missed=()
for name in "${wanted[@]}"; do
    # The whole nodes come first: what they find they find within the first seeds.
    case "$name" in
    replica_*) simulations=(whole replication replica) ;;
    fair_*) simulations=(fair) ;;
    terms_*) simulations=(simulation terms) ;;
    *) simulations=(simulation) ;;
    esac
    place="$target/mutants/$name"
    mkdir -p "$place"
    printf '#!/bin/sh\nexec "$@" --cfg '"'"'mutant="%s"'"'"'\n' "$name" >"$place/rustc"
    chmod +x "$place/rustc"
    export RUSTC_WORKSPACE_WRAPPER="$PWD/$place/rustc" CARGO_INCREMENTAL=0
    case "$target" in /*) RUSTC_WORKSPACE_WRAPPER="$place/rustc" ;; esac
    # A bug that does not compile is not found but broken.
    binaries=()
    for simulation in "${simulations[@]}"; do
        case "$simulation" in replica | fair | terms) binaries+=(--lib) ;; *) binaries+=(--test="$simulation") ;; esac
    done
    if ! cargo test --quiet "${binaries[@]}" --no-run >"$place/build.log" 2>&1; then
        echo "BROKEN $name: see $place/build.log"
        missed+=("$name")
        continue
    fi
    found=
    for simulation in "${simulations[@]}"; do
        case "$simulation" in
        replication) tests=(--test replication) ;;
        replica) tests=(--lib replication::core) ;;
        fair) tests=(--lib -- exchange:: node::rpc:: node::replication:: grenache:: listener:: http::api::) ;;
        terms) tests=(--lib exchange) ;;
        *) tests=(--test "$simulation" every_seed) ;;
        esac
        if ! cargo test --quiet "${tests[@]}" >"$place/run.log" 2>&1; then
            found=$simulation
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "MISSED $name"
        missed+=("$name")
    else
        rule=$(grep -m1 -aE '^seed [0-9]+: |^assertion|panicked at (tests|src)' "$place/run.log" || echo "but not by a rule, see $place/run.log")
        echo "found  $name by $found: $rule"
    fi
done

echo "$((${#wanted[@]} - ${#missed[@]})) of ${#wanted[@]} planted bugs were found"
[ ${#missed[@]} -eq 0 ]
