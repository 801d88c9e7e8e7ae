# Sourced by the scripts beside it: where the repository is, how they speak, how a missing Debian package is installed.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
TOOLS_DIR=$ROOT/.tools
export ROOT TARGET_DIR TOOLS_DIR
case ":$PATH:" in
    *":${HOME:-/root}/.cargo/bin:"*) ;;
    *) PATH=$PATH:${HOME:-/root}/.cargo/bin ;;
esac
# sbin: where a plain user's PATH on Debian does not look.
PATH=$PATH:/usr/sbin:/sbin
export PATH

# What a script is doing.
say() { printf '==> %s\n' "$*"; }

# Something that was left out, in a form that nobody overlooks.
skip() { printf '\n*** SKIPPED: %s\n\n' "$*" >&2; }

die() {
    printf '\n*** FAILED: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# As root directly or through a sudo that asks nothing; 1 when there is neither.
as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=180 "$@" </dev/null 2>&1
}

# install_packages PACKAGE...: 0 when they are installed afterwards. An empty or old package list is refreshed; what apt
# says is shown only when it fails.
install_packages() {
    local output
    have apt-get && as_root true || return 1
    say "installing from Debian: $*"
    apt install -y --no-install-recommends "$@" >/dev/null && return 0
    if ! output=$(apt update && apt install -y --no-install-recommends "$@"); then
        printf '%s\n' "$output" >&2
        return 1
    fi
}

# missing_packages THING:PACKAGE...: prints the packages of the things that are not there: commands, or /files.
missing_packages() {
    local pair thing
    for pair in "$@"; do
        thing=${pair%%:*}
        [[ $thing == /* && -e $thing ]] || have "$thing" || printf '%s\n' "${pair#*:}"
    done
}

# require THING:PACKAGE...: installs what is missing, or prints the one line to type and ends.
require() {
    local packages
    mapfile -t packages < <(missing_packages "$@")
    ((${#packages[@]})) || return 0
    if ! install_packages "${packages[@]}"; then
        if have apt-get; then
            die "missing: ${packages[*]}. Type this, then try again:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}"
        fi
        die "missing (names of Debian's packages): ${packages[*]}. Install them, then try again."
    fi
    hash -r
    mapfile -t packages < <(missing_packages "$@")
    ((${#packages[@]} == 0)) || die "installed, but still not to be found: ${packages[*]}"
}

# The toolchain that Cargo.toml names, or newer.
require_cargo() {
    local wanted found
    have cargo || die "cargo is missing. Install Rust (https://rustup.rs), then try again."
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    found=$(cd "$ROOT" && cargo --version) || die "cargo is there but does not run (see above)."
    found=${found#cargo } && found=${found%% *}
    if [[ $(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1) != "$wanted" ]]; then
        die "cargo $found is too old: Rust $wanted or newer is needed (rustup toolchain install $wanted)."
    fi
}

# download_packages DIR SUITE PACKAGE...: their .deb files, from Debian's SUITE (empty: this machine's own, "-backports" as its
# ending: that one first). With package lists of its own, so that this machine's stay as they are; the mirror is the one it uses already.
download_packages() {
    local dir=$1 suite=$2 sources own mirror options
    shift 2
    have apt-get || return 1
    own=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    # shellcheck disable=SC2016 # the dollar is apt's
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | sort -u | head -n 1)
    [[ -n $own && -n $mirror ]] || return 1
    case $suite in
        '') suite=$own ;;
        -backports) suite=$own-backports ;;
    esac
    sources=$dir/sources.list
    printf 'deb %s %s main\n' "$mirror" "$suite" >"$sources"
    [[ $suite != *-backports ]] || printf 'deb %s %s main\n' "$mirror" "$own" >>"$sources"
    mkdir -p "$dir/lists/partial"
    options=(-qq -o "Dir::Etc::SourceList=$sources" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$dir/lists"
        -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return 1
    (cd "$dir" && apt-get "${options[@]}" -t "$suite" download "$@")
}
