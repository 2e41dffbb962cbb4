#!/bin/busybox sh
# First program of the emulated host: loads the kernel modules (MODULES, in this order; the build fills them in), mounts
# the root disk /dev/vda, and goes on with lab-init there. Only a static busybox is here.
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
