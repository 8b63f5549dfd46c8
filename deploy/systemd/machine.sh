# To be sourced: machines with a systemd of their own, on this one. Each has namespaces of its own (mounts, network,
# processes, names, control groups) and a root directory in memory that holds this machine's /usr, read-only, and
# otherwise nothing of it. The caller sets $work, a directory of its own, and calls machines_gone at the end.
#
#   boot NAME          # starts a machine; returns when its systemd is up
#   on NAME COMMAND    # runs a command there, as root
#   lose NAME          # the power goes, and the disk with it
#
# Needs root, systemd and util-linux. Nothing outside of $work and of a control group lacre-PID-NAME is made, and
# machines_gone removes both.

declare -A machine_booted machine_init # by name: the process that holds the namespaces, and the systemd in it

# The root directory of the namespaces: the machine's programs, read-only, and otherwise nothing of it.
cat >"$work/boot" <<'BOOT'
set -euo pipefail
root=$1 name=$2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 none "$root"
cd "$root"
mkdir -p usr etc/systemd/system etc/sysusers.d var/lib run tmp proc sys dev root
for d in bin sbin lib lib64; do ln -s usr/$d $d; done
mount --rbind /usr usr
mount -o remount,ro,bind usr
mount -t tmpfs -o mode=0755 none usr/local
mkdir -p usr/local/bin
mount -t proc none proc
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=0755 none dev
for n in null zero full random urandom tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
mkdir dev/shm dev/pts
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t devpts -o newinstance,ptmxmode=0666 none dev/pts
mount -t tmpfs none run
mount -t tmpfs none tmp
touch etc/machine-id
echo "$name" >etc/hostname
ip link set lo up
mkdir old
pivot_root . old # not chroot: in one, PrivateUsers= is refused
/usr/bin/umount --lazy old
/usr/bin/rmdir old
exec /usr/bin/env -i container=lacre /usr/lib/systemd/systemd --unit=multi-user.target
BOOT
mkdir "$work/root"

boot() { # boot NAME
  unshare --mount bash -c 'mount --make-rprivate / && mount -t cgroup2 none "$1" && mkdir "$1/$2" && echo $$ >"$1/$2/cgroup.procs" &&
    umount "$1" && exec unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child bash "$3" "$1" "$4"' \
    - "$work/root" "lacre-$$-$1" "$work/boot" "$1" </dev/null >"$work/console-$1" 2>&1 &
  machine_booted[$1]=$!
  local init begin=$SECONDS
  until init=$(pgrep -P "${machine_booted[$1]}" -x systemd) && machine_init[$1]=$init &&
    on "$1" systemctl is-system-running --wait >"$work/state-$1" 2>/dev/null || grep -q degraded "$work/state-$1" 2>/dev/null; do
    if ! kill -0 "${machine_booted[$1]}" 2>/dev/null || [ $((SECONDS - begin)) -ge 60 ]; then
      cat "$work/console-$1" >&2
      return 1
    fi
    sleep 0.2
  done
}

on() { # on NAME COMMAND...
  local name=$1
  shift
  nsenter --target "${machine_init[$name]}" --mount --pid --net --uts --ipc --cgroup --root \
    env -C /root HOME=/root PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin "$@"
}

lose() { # lose NAME
  kill -KILL "${machine_booted[$1]}" 2>/dev/null || true # process 1 of the namespaces goes with it, and all others with that
  wait "${machine_booted[$1]}" 2>/dev/null || true
  unset "machine_booted[$1]" "machine_init[$1]"
  unshare --mount bash -c 'mount --make-rprivate / && mount -t cgroup2 none "$1" &&
    for n in 1 2 3 4 5 6 7 8 9 10; do
      [ -d "$1/$2" ] || break
      find "$1/$2" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.2
    done' - "$work/root" "lacre-$$-$1" || true
}

machines_gone() {
  local name
  for name in "${!machine_booted[@]}"; do lose "$name"; done
  rmdir "$work/root" 2>/dev/null || true
}
