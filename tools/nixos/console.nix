# Console on the first serial port, events on the second: a guest that cannot
# speak looks like one that hangs.
{ lib, ... }:
{
  boot.kernelParams = lib.mkAfter [
    # The last console= is /dev/console.
    "console=ttyS0"
    # A panic ends the machine at once; the harness sees it and QEMU leaves.
    "panic=-1"
    "oops=panic"
    # So does a first stage that does not find its root, instead of waiting for someone to log in.
    "boot.panic_on_fail"
    # On the virtual clock nothing may depend on where things were put.
    "nokaslr"
    "random.trust_cpu=on"
    "systemd.show_status=error"
  ];
  boot.consoleLogLevel = 4;
  boot.initrd.verbose = false;

  # No login is offered: the first port is the console, the second is the events'.
  systemd.services =
    lib.genAttrs
      [
        "serial-getty@ttyS0"
        "serial-getty@ttyS1"
        "getty@tty1"
        "autovt@"
      ]
      (_: {
        enable = false;
      });
}
