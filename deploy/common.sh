# What install.sh and uninstall.sh share; sourced, never run. Sets: root, dry. Paths are those of the target.
# shellcheck shell=bash

root=""
dry=0
# shellcheck disable=SC2034 # for those who source this
units=(tipguard-controller tipguard-uplink)

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# do_it COMMAND...: run it, or with --dry-run only say so.
do_it() {
    if ((dry)); then
        printf 'would run: %s\n' "$*"
    else
        "$@"
    fi
}

# root_given DIR: everything goes below DIR, as for an image or a test; nothing of this machine is touched.
root_given() {
    [ -n "$1" ] || fail "--root wants a directory"
    case $1 in
        /) root="" ;;
        /*) root=${1%/} ;;
        *) fail "--root $1: not an absolute path" ;;
    esac
}

# This machine's own systemd and udev, and not a tree that is being filled.
systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }
udev_runs() { [ -z "$root" ] && [ -d /run/udev ] && command -v udevadm >/dev/null; }

may_write() {
    if [ -z "$root" ] && ((!dry)) && ((EUID)); then
        fail "needs root: sudo $0"
    fi
}
