#!/bin/sh
# Process 1 of the emulated host during a run. It prepares the file systems, modules and devices that BoxLite needs.
# Then it runs /share/command with its output on the virtio port, writes the exit code to the share, and powers off.
# While sh waits, it also reaps orphans. The tests need that.
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
hostname lab
ip link set lo up

# The heartbeat on the serial console shows that the host is alive, even when the command prints nothing.
while :; do echo "lab: heartbeat" >/dev/ttyS0; sleep 5; done &

modprobe -a overlay fuse vhost_vsock tun virtio_console kvm_amd
chmod 666 /dev/kvm /dev/vhost-vsock /dev/fuse /dev/net/tun 2>/dev/null
mount -t ext4 -o noatime /dev/vdb /project
mount -t ext4 -o noatime /dev/vdc /project/node_modules
rmdir /project/lost+found /project/node_modules/lost+found

port=
for name in /sys/class/virtio-ports/*/name; do
  [ "$(cat "$name")" = output ] && port=/dev/$(basename "$(dirname "$name")")
done
[ -n "$port" ] || { echo "lab: no output port" >/dev/ttyS0; exec /bin/busybox poweroff -f; }

# The port can be opened only once. So a pipe stands in front of it, which the command and its children can open again.
mkfifo /run/output
cat /run/output >"$port" &
drain=$!

export HOME=/root LANG=C.UTF-8 TERM=dumb USER=root
cd /project
touch /share/booted
setsid sh /share/command >/run/output 2>&1 </dev/null &
wait $!
echo $? >/share/exit-code

# Processes that the command left may hold the pipe open, so the wait has a bound.
( sleep 3; kill "$drain" ) 2>/dev/null &
wait "$drain"
sync
/bin/busybox poweroff -f
