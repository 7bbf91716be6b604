/*
 * What runs in the guest: a shell script for BusyBox as process 1. It mounts the system's filesystems and then serves
 * "lanes": each takes one command at a time from the host.
 *
 * A lane is three virtio-console ports, named in the guest's /sys/class/virtio-ports:
 *   lab.N.io   host to guest: `TOKEN BYTES INPUT\n` and a script of that many bytes; guest to host: standard output,
 *              then a NUL, TOKEN, a blank, the exit code and a newline
 *   lab.N.err  guest to host: standard error, then the same trailer
 *   lab.N.in   host to guest: standard input. The host connects, sends `go\n` and the bytes, and disconnects: its end
 *              of file. Only used when INPUT is 1.
 * TOKEN is random, so that no output can be taken for the end. A lane says `\0lab\n` on io when it is there.
 *
 * An interactive shell uses a console device (hvc0) instead, which is a terminal.
 */

/** Said by a lane on its io port when it can take commands. */
export const LANE_HELLO = '\0lab\n';

/** @param lanes how many lanes the machine has. */
export function initScript(lanes: number): string {
  return `#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=linux USER=root SHELL=/bin/sh
umask 022
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
[ -e /bin/ls ] || /bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /lib/modules/*.ko; do [ ! -e "$module" ] || insmod "$module"; done
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
ln -s /proc/self/fd /dev/fd
# The boot was quiet; from here on the console shows what the kernel says.
echo 7 >/proc/sys/kernel/printk

# The ports come one after another: waits for all, as variables io_0, err_0, in_0, io_1, ...
while :; do
  ports=0
  for found in /sys/class/virtio-ports/*; do
    { read -r name <"$found/name"; } 2>/dev/null || continue
    case "$name" in lab.*)
      rest=\${name#lab.}
      eval "\${rest#*.}_\${rest%.*}=/dev/\${found##*/}"
      ports=$((ports + 1))
    esac
  done
  [ "$ports" -lt ${3 * lanes} ] || break
  usleep 10000
done

lane() {
  eval "exec 3<>\\$io_$1 4>\\$err_$1 5<\\$in_$1"
  printf '\\000lab\\n' >&3
  while read -r token size input <&3; do
    script=$(head -c "$size" <&3)
    # An unconnected port reads as end of file.
    [ "$input" = 0 ] || until read -r go <&5; do usleep 5000; done
    (
      [ "$input" = 1 ] || exec 5</dev/null
      exec <&5 >&3 2>&4 3>&- 4>&- 5<&-
      eval "$script"
    )
    code=$?
    printf '\\000%s %d\\n' "$token" "$code" >&3
    printf '\\000%s %d\\n' "$token" "$code" >&4
  done
}

# All lanes at once. Not with &: what a shell puts into the background ignores Ctrl-C, and so would all its children.
serve() {
  if [ "$1" -eq 0 ]; then lane 0; else lane "$1" | serve $(($1 - 1)); fi
}

# Process 1 must not end, and takes the exit codes of orphans.
while :; do serve ${lanes - 1}; usleep 100000; done
`;
}
