#!/bin/busybox sh
# First program of the emulated host: loads what the root disk needs and moves over to it.
# Static busybox only; the disk is /dev/vda. MODULES is filled in by the build, in order of need.
/bin/busybox mkdir -p /proc /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in MODULES; do /bin/busybox insmod "/modules/$module"; done
tries=0
while ! /bin/busybox mount -t ext4 -o noatime /dev/vda /root; do
  tries=$((tries + 1))
  [ "$tries" -lt 50 ] || { echo "lab: no root disk" >/dev/console; exec /bin/busybox poweroff -f; }
  /bin/busybox sleep 0.1
done
/bin/busybox umount /proc
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/lab-init
