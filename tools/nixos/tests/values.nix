# What must come out of the configuration, whichever module system evaluated it:
# each value that broke a guest elsewhere. A list of { name, holds }.
{ lib, config }:
let
  unit = config.systemd.services.gen-fixtures;
  inherit (config.boot) initrd kernelParams;
  in-initrd = name: lib.elem name (initrd.kernelModules ++ initrd.availableKernelModules);
  in-guest = name: lib.elem name config.boot.kernelModules;
  mounts = lib.attrValues config.fileSystems;
  disabled = name: !config.systemd.services.${name}.enable;
in
[
  {
    name = "the initrd finds a virtio disk";
    holds = lib.elem "virtio_blk" initrd.kernelModules && lib.elem "virtio_pci" initrd.kernelModules;
  }
  {
    name = "the initrd finds a root in memory";
    holds = in-initrd "nfit" && in-initrd "nd_pmem" && in-initrd "erofs";
  }
  {
    name = "the initrd has 9p over virtio";
    holds = in-initrd "9p" && in-initrd "9pnet_virtio";
  }
  {
    name = "the guest has taprio, cbs and etf";
    holds = in-guest "sch_taprio" && in-guest "sch_cbs" && in-guest "sch_etf";
  }
  {
    name = "the last console is the first serial port";
    holds = lib.last (lib.filter (lib.hasPrefix "console=") kernelParams) == "console=ttyS0";
  }
  {
    name = "no login on the console or the event port";
    holds = disabled "serial-getty@ttyS0" && disabled "serial-getty@ttyS1";
  }
  {
    name = "a panic ends the machine";
    holds = lib.elem "panic=-1" kernelParams && lib.elem "oops=panic" kernelParams;
  }
  {
    name = "a root that is not found ends the machine";
    holds = lib.elem "boot.panic_on_fail" kernelParams && !config.systemd.enableEmergencyMode;
  }
  {
    name = "no mount is nofail";
    holds = !(lib.any (mount: lib.elem "nofail" mount.options) mounts);
  }
  {
    name = "the share is not mounted by the system";
    holds = !(lib.any (mount: mount.fsType == "9p") mounts);
  }
  {
    name = "the store is found by label and mounted read-only in the first stage";
    holds =
      let
        store = config.fileSystems."/nix/store";
      in
      store.device == "/dev/disk/by-label/${config.fixtureGuest.storeLabel}"
      && store.neededForBoot
      && lib.elem "ro" store.options;
  }
  {
    name = "power-off on success";
    holds = unit.unitConfig.SuccessAction == "poweroff-force";
  }
  {
    name = "power-off on failure";
    holds = unit.unitConfig.FailureAction == "poweroff-force";
  }
  {
    name = "the program is started by its absolute path";
    holds = lib.hasPrefix builtins.storeDir unit.serviceConfig.ExecStart;
  }
  {
    name = "every tool is an absolute path";
    holds =
      lib.filterAttrs (_: path: !(lib.hasPrefix builtins.storeDir path)) config.fixtureGuest.tools == { };
  }
  {
    name = "every tool of a scene is there";
    holds =
      lib.filter (name: !(lib.elem name (lib.attrNames config.fixtureGuest.tools))) [
        "ip"
        "tc"
        "bridge"
        "lldpd"
        "lldpcli"
        "ptp4l"
        "pmc"
        "dumpcap"
        "ethtool"
        "firecracker"
        "qemu-system-x86_64"
        "lz4"
        "zstd"
      ] == [ ];
  }
  {
    name = "the program is told the folder of every tool";
    holds =
      lib.filter (
        path: !(lib.elem (builtins.dirOf path) (lib.splitString ":" unit.environment.FIXTURE_VM_TOOLS))
      ) (lib.attrValues config.fixtureGuest.tools) == [ ];
  }
  {
    name = "the program is told what microVMs boot and share";
    holds =
      unit.environment.FIXTURE_VM_MICROVM == "${config.fixtureGuest.microvm}"
      && unit.environment.FIXTURE_VM_STORE == config.fileSystems."/nix/store".device;
  }
  {
    name = "nothing waits for a network";
    holds =
      !config.systemd.network.wait-online.enable
      && !(lib.any (lib.hasPrefix "network-online") (unit.after ++ unit.wants ++ unit.requires))
      && !config.networking.useDHCP;
  }
  {
    name = "nobody but ptp4l steers the clock";
    holds = !config.services.timesyncd.enable;
  }
  {
    name = "no assertion of the guest fails";
    holds = lib.filter (one: !one.assertion) config.assertions == [ ];
  }
]
