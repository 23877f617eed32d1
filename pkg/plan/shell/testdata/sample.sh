#!/bin/bash
# Builds the container sample by hand, with the tools of util-linux. To be run by root.
# Made from the container's plan; each group of commands has the reason of its steps.
set -eu

# What is made on the host goes when the script ends, last things first.
undo=()
at_end() { for ((i = ${#undo[@]} - 1; i >= 0; i--)); do eval "${undo[i]}" || :; done; }
trap at_end EXIT

# A control group is busy for a moment after its last process has ended.
remove() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        rmdir -- "$1" 2>/dev/null && return || sleep 0.1
    done
    rmdir -- "$1"
}

### cgroup

# a control group
mkdir -- /sys/fs/cgroup/x
undo+=('remove /sys/fs/cgroup/x')

# limit memory
{ echo 1000 > /sys/fs/cgroup/x/memory.max; } 2>/dev/null || :

# The helper stays outside. Up and down are fifos; nobody sees them after this.
temporary=$(mktemp -d)
mkfifo "$temporary/up" "$temporary/down"
exec 3<>"$temporary/up" 4<>"$temporary/down"
rm -r "$temporary"
helper() {
    trap 'echo stop >&4' EXIT
    read -r pid <&3

    ### namespaces

    # limits hold
    echo "$pid" > /sys/fs/cgroup/x/cgroup.procs

    echo go >&4
    read -r go <&3

    ### root file system

    # the new root
    nsenter --mount="/proc/$pid/ns/mnt" -- sh -c 'cd "$1" && exec pivot_root . .' sh '/it'\''s a root'

    # the old one goes
    nsenter --mount="/proc/$pid/ns/mnt" -- umount --lazy /

    echo go >&4
}
helper &
helper=$!

# born
# a session of its own: setsid
born='read -r pid rest < /proc/self/stat; echo "$pid" >&3
    read -r go <&4 && [ "$go" = go ] || exit 125
    exec "$@"'
script='IFS= read -r -d "" script <&9 || :; exec 9<&-; eval "$script"'
status=0
unshare --mount --uts --pid --propagation unchanged --fork -- setsid -- bash -p -c "$born" born bash -p -c "$script" inside 9<<'INSIDE' || status=$?
set -eu

# inside find|dir|file PATH [nolinks|apart]: where the path is, seen from the new root; links
# are followed as if it were the root already. dir and file make what is missing. With apart,
# links must not lead to where the kernel shows itself.
inside() {
    how=$1 rest=$2 here=$root links=0
    while [ -n "$rest" ]; do
        name=${rest%%/*}
        case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
        case $name in
        '' | .) continue ;;
        ..) [ "$here" = "$root" ] || here=${here%/*}; continue ;;
        esac
        next=$here/$name
        if [ -L "$next" ]; then
            links=$((links + 1))
            [ "$links" -le 40 ] && [ "${3-}" != nolinks ] || { echo "$2: symbolic links" >&2; return 1; }
            to=$(readlink -n -- "$next" && echo .)
            to=${to%.}
            case $to in /*) here=$root ;; esac
            rest=$to/$rest
            continue
        fi
        if [ ! -e "$next" ]; then
            if [ "$how" = find ]; then return 1; fi
            if [ "$how" = dir ] || [ -n "$rest" ]; then
                mkdir -m 0755 -- "$next" || return 1
            else
                install -m 0644 -- /dev/null "$next" || return 1
            fi
        fi
        here=$next
    done
    case ${3-}$here/ in apart"$root"/proc/* | apart"$root"/sys/*) echo "$2: a link into /proc or /sys" >&2; return 1 ;; esac
    found=$here
}

### root file system

# mounts stay here
mount --make-rslave -- /

# the root file system
# a place for it
mount --rbind -- '/it'\''s a root' '/it'\''s a root'
root='/it'\''s a root'

# a new tmpfs
# where /dev is
# made
inside dir dev
at=$found

# at /dev
mount -t tmpfs -o 'nosuid,mode=755' -- none "$at"
mount -o remount,bind,ro,nosuid -- "$at"
mnt1="$at"

# a device
mknod -m 0666 -- "$mnt1"/null c 1 3

# the new root
cd "$root"
#   (no command: the helper does it when no tool of the host is needed any more)

# from inside
cd "$root"

### last

# What the last shell does, when no tool can be executed any more.
IFS= read -r -d "" last <<'LAST' || :

### root file system

# nothing stays open
for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    case $fd in [0-4]) ;; *) eval "exec $fd>&-" ;; esac
done
# The helper puts the new root in the place of the old one.
echo ready >&3
read -r go <&4 && [ "$go" = go ] || exit 125
exec 3>&- 4<&-

# Exactly the container's environment; an array is never exported.
unset PWD OLDPWD
declare -a SHLVL
export -- 'A=$b' 2>/dev/null
# not set, as bash keeps it for itself: RANDOM

### program

# is it there?
# become the program
[ -x /bin/x ] || { echo '/bin/x: not found, or not executable' >&2; exit 127; }
exec -a "$0" /bin/x "$@"
LAST

# never again: --bounding-set
# the group: --regid
# the user: --reuid
exec setpriv --bounding-set=-sys_admin --inh-caps=-all --ambient-caps=-all --regid=1000 --reuid=1000 --keep-groups -- \
    env -i 'odd.name=1' 'UID=2' \
    bash -p -c "$last" x 'it'\''s'
INSIDE
kill "$helper" 2>/dev/null || :
wait "$helper" 2>/dev/null || :
exit "$status"
